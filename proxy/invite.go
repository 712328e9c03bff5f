package proxy

import (
	"net/http"
	"net/url"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
)

// inviteInfo is an invite. The address of its link is there only in the answer that
// made it: what is stored does not give it back.
type inviteInfo struct {
	ID              string   `json:"id"`
	Organization    string   `json:"organization"` // ours
	Email           string   `json:"email"`
	Role            string   `json:"role"`
	SentAt          int64    `json:"sentAt"`
	ExpiresAt       int64    `json:"expiresAt"` // ours
	SentBy          userInfo `json:"sentBy"`
	Status          string   `json:"status"`
	AcceptedBy      string   `json:"acceptedBy,omitempty"` // ours
	AcceptInviteURL string   `json:"acceptInviteUrl"`
}

func (g *Gate) inviteInfo(i identity.Invite, secret string) inviteInfo {
	info := inviteInfo{
		ID: i.ID, Organization: i.Organization.Login, Email: i.Email, Role: string(i.Role), SentAt: unix(i.Created), ExpiresAt: unix(i.Expires),
		SentBy: userInfo{i.SentBy.Name, i.SentBy.Login, i.SentBy.AvatarURL, i.SentBy.Email}, Status: string(i.Status), AcceptedBy: i.By.Login,
	}
	if secret != "" {
		info.AcceptInviteURL = g.ConsoleURL + "/invite?code=" + url.QueryEscape(secret)
	}
	return info
}

func (g *Gate) invites(w http.ResponseWriter, c *call) error {
	invites, next, err := g.Directory.Invites(c.Context(), c.log, c.query.Get("continuationToken"), 0)
	if err != nil {
		return err
	}
	return g.writeInvites(w, invites, next)
}

func (g *Gate) pendingInvites(w http.ResponseWriter, c *call) error {
	invites, err := g.Directory.InvitesTo(c.Context(), c.principal.UserID)
	if err != nil {
		return err
	}
	return g.writeInvites(w, invites, "")
}

func (g *Gate) writeInvites(w http.ResponseWriter, invites []identity.Invite, next string) error {
	list := make([]inviteInfo, 0, len(invites))
	for _, i := range invites {
		list = append(list, g.inviteInfo(i, ""))
	}
	httpapi.WriteJSON(w, http.StatusOK, struct {
		Invites           []inviteInfo `json:"invites"`
		ContinuationToken string       `json:"continuationToken,omitempty"`
	}{list, next})
	return nil
}

// maxInvites is how many addresses one call may invite.
const maxInvites = 100

// inviteBatch invites addresses. What is wrong with one does not stop the others.
func (g *Gate) inviteBatch(w http.ResponseWriter, c *call) error {
	var body struct {
		Invites []struct {
			Email  string `json:"email"`
			Role   string `json:"role"`
			RoleID string `json:"roleId"`
		} `json:"invites"`
	}
	if err := c.decodeBody(&body); err != nil {
		return err
	}
	if len(body.Invites) == 0 || len(body.Invites) > maxInvites {
		return errs.Errorf(errs.Invalid, "send 1 to %d invites at a time", maxInvites)
	}
	type failed struct {
		Email string `json:"email"`
		Error string `json:"error"`
	}
	answer := struct {
		Sent   []inviteInfo `json:"sentInvites"`
		Failed []failed     `json:"failedInvites"`
	}{Sent: []inviteInfo{}, Failed: []failed{}}
	for _, wanted := range body.Invites {
		info, err := g.invite(c, wanted.Email, identity.Role(wanted.Role), true)
		if err == nil {
			answer.Sent = append(answer.Sent, info)
			continue
		}
		switch errs.KindOf(err) {
		case errs.Invalid, errs.Conflict, errs.Exhausted, errs.Unprocessable:
			answer.Failed = append(answer.Failed, failed{httpapi.Clean(wanted.Email, 254), errs.Public(err)})
		default:
			return err
		}
	}
	httpapi.WriteJSON(w, http.StatusOK, answer)
	return nil
}

// invite makes one invite and mails it, in that order: an invite whose mail could not
// be queued is still there to be handed over.
func (g *Gate) invite(c *call, email string, role identity.Role, mailed bool) (inviteInfo, error) {
	if mailed && email == "" {
		return inviteInfo{}, errs.Errorf(errs.Invalid, "an invite by mail needs an address")
	}
	if role == "" {
		role = identity.RoleMember
	}
	invite, secret, err := g.Directory.CreateInvite(c.detached(), c.principal, c.log, email, role)
	if err != nil {
		return inviteInfo{}, err
	}
	if mailed {
		if err := g.Email.SendInvite(c.detached(), invite, secret); err != nil {
			httpapi.LogError(g.Log, c.Request, err)
		}
	}
	return g.inviteInfo(invite, secret), nil
}

// inviteLink makes a link that one person may use, whoever has it.
func (g *Gate) inviteLink(w http.ResponseWriter, c *call) error {
	var body struct {
		Role   string `json:"role"`
		RoleID string `json:"roleId"`
	}
	if err := c.decodeBody(&body); err != nil {
		return err
	}
	info, err := g.invite(c, "", identity.Role(body.Role), false)
	if err != nil {
		return err
	}
	httpapi.WriteJSON(w, http.StatusOK, info)
	return nil
}

// resendInvite gives an invite a new link and mails it again.
func (g *Gate) resendInvite(w http.ResponseWriter, c *call) error {
	invite, secret, err := g.Directory.RenewInvite(c.detached(), c.principal, c.log, c.names["invite"])
	if err != nil {
		return err
	}
	if invite.Email != "" {
		if err := g.Email.SendInvite(c.detached(), invite, secret); err != nil {
			httpapi.LogError(g.Log, c.Request, err)
		}
	}
	httpapi.WriteJSON(w, http.StatusOK, g.inviteInfo(invite, secret))
	return nil
}

// approveInvite is ours: it lets in somebody who used an invite to another address.
func (g *Gate) approveInvite(w http.ResponseWriter, c *call) error {
	_, err := g.Directory.ApproveInvite(c.detached(), c.principal, c.log, c.names["invite"])
	return noContent(w, err)
}

func (g *Gate) cancelInvite(w http.ResponseWriter, c *call) error {
	return noContent(w, g.Directory.CancelInvite(c.detached(), c.principal, c.log, c.names["invite"]))
}

// ownInvite finds an invite to the caller's address. The secret of any other is sent
// in a body, never in a path, which logs may keep.
func (g *Gate) ownInvite(c *call) (identity.Invite, error) {
	invites, err := g.Directory.InvitesTo(c.Context(), c.principal.UserID)
	if err != nil {
		return identity.Invite{}, err
	}
	for _, i := range invites {
		if i.ID == c.names["invite"] && i.Organization.ID == c.log {
			return i, nil
		}
	}
	return identity.Invite{}, errs.Errorf(errs.NotFound, "there is no such invite for you")
}

// inviteOf shows what an invite to the caller is for.
func (g *Gate) inviteOf(w http.ResponseWriter, c *call) error {
	invite, err := g.ownInvite(c)
	if err != nil {
		return err
	}
	httpapi.WriteJSON(w, http.StatusOK, organizationSummary{Name: invite.Organization.Name, Login: invite.Organization.Login, Role: string(invite.Role)})
	return nil
}

// acceptInvite makes the caller a member: by an invite to their address, or by the
// secret of a link.
func (g *Gate) acceptInvite(w http.ResponseWriter, c *call) error {
	var body struct {
		Code string `json:"code"` // ours
	}
	if c.ContentLength != 0 {
		if err := c.decodeBody(&body); err != nil {
			return err
		}
	}
	var invite identity.Invite
	var err error
	if body.Code != "" {
		invite, err = g.Directory.AcceptInvite(c.detached(), c.principal, body.Code)
	} else if invite, err = g.ownInvite(c); err == nil {
		invite, err = g.Directory.AcceptInviteTo(c.detached(), c.principal, invite.ID)
	}
	if err == nil && invite.Status == identity.InviteApproval {
		httpapi.WriteJSON(w, http.StatusAccepted, g.inviteInfo(invite, ""))
		return nil
	}
	return noContent(w, err)
}
