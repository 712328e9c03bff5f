package web

import (
	"errors"
	"net/http"
	"net/url"
	"slices"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
)

// invitePage shows an invite to whoever has its link.
type invitePage struct {
	Code               string
	Organization, Name string
	Role, By           string
	Theirs             bool   // it was sent to the visitor's confirmed address
	SignIn, SignUp     string // SignUp is "" where it is off
	Managed, Waiting   bool
}

func inviteFacts(i identity.Invite) invitePage {
	p := invitePage{Organization: i.Organization.Login, Name: i.Organization.Name, Role: string(i.Role), By: i.SentBy.Name}
	if p.By == "" {
		p.By = i.SentBy.Login
	}
	return p
}

func (c *Console) inviteForm(w http.ResponseWriter, v *visit) error {
	code := v.code(w)
	invite, err := c.config.Directory.InviteBySecret(v.r.Context(), code)
	if err != nil {
		return c.badInvite(w, v, err)
	}
	p := inviteFacts(invite)
	p.Code = code
	back := "/invite?" + url.Values{"code": {code}}.Encode()
	p.SignIn = withReturn("/signin", back)
	if settings := c.config.Email.Settings(); settings.SignUp || settings.PasswordLogin {
		p.SignUp = withReturn("/signup", back)
	}
	if v.in {
		sent, err := c.config.Directory.InvitesTo(v.r.Context(), v.who.UserID)
		if err != nil {
			return err
		}
		p.Theirs = slices.ContainsFunc(sent, func(i identity.Invite) bool { return i.ID == invite.ID })
		p.Managed = v.who.ManagedBy != ""
	}
	return c.renderInvite(w, v, http.StatusOK, p)
}

func (c *Console) renderInvite(w http.ResponseWriter, v *visit, status int, p invitePage) error {
	return c.render(w, v, status, "invite", page{Title: "Invite to " + p.Organization, Narrow: true, Body: p})
}

// badInvite explains what may be the matter with an invite that is good for nothing.
func (c *Console) badInvite(w http.ResponseWriter, v *visit, err error) error {
	f := failure{Path: "/", PathText: "To the console", RequestID: httpapi.RequestID(v.r.Context())}
	switch {
	case errors.Is(err, errs.NotFound), errors.Is(err, errs.Invalid):
		f.Status, f.Heading = http.StatusNotFound, "This invite does not work"
		f.Message = "It has been used, taken back or replaced by a newer one, or it has expired. Ask whoever sent it for another."
	case errors.Is(err, errs.Conflict):
		f.Status, f.Heading = http.StatusConflict, "You are a member already"
		f.Message = sentence(errs.Public(err))
	case errors.Is(err, errs.Forbidden):
		f.Status, f.Heading = http.StatusForbidden, "You cannot accept this invite"
		f.Message = sentence(errs.Public(err))
	default:
		return err
	}
	return c.renderFailure(w, v, f)
}

// acceptInvite makes the visitor a member, or has them wait for the word of an
// administrator.
func (c *Console) acceptInvite(w http.ResponseWriter, v *visit) error {
	form, err := v.form(w)
	if err != nil {
		return err
	}
	var invite identity.Invite
	if id := form.Get("id"); id != "" {
		invite, err = c.config.Directory.AcceptInviteTo(v.r.Context(), v.who, id)
	} else {
		invite, err = c.config.Directory.AcceptInvite(v.r.Context(), v.who, form.Get("code"))
	}
	if err != nil {
		return c.badInvite(w, v, err)
	}
	if invite.Status == identity.InviteApproval {
		p := inviteFacts(invite)
		p.Waiting = true
		return c.renderInvite(w, v, http.StatusOK, p)
	}
	http.Redirect(w, v.r, stackName{Organization: invite.Organization.Login}.Path(), http.StatusSeeOther)
	return nil
}
