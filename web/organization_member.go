package web

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
)

// membersPage is who is in an organization, and who is invited. The fields of its
// forms are as they were sent when that failed.
type membersPage struct {
	Organization wireMetadata
	Members      []memberRow
	Next         string
	First        bool // the first page
	Done         string

	Problem string // of a change to a member, at the top

	Login, Role string // to add
	AddProblem  string

	Invites                  []invitation
	InvitesNext              string
	Emails, InviteRole       string // to invite
	InviteProblem, LinkError string
	Sent                     []wireInvite // the answer to that, with the links this once
	Failed                   []failedInvite
	Link                     *wireInvite // a link that has just been made
}

// SentCount is how many invites were sent.
func (p membersPage) SentCount() int64 { return int64(len(p.Sent)) }

type memberRow struct {
	Login, Name, Email, Role string
	Since                    time.Time
	Source                   string // where the membership comes from, "" for here
	You                      bool
}

type failedInvite struct {
	Email string `json:"email"`
	Error string `json:"error"`
}

// invitation is an invite in the list.
type invitation struct {
	wireInvite
	SentAt, ExpiresAt time.Time
	Open              bool // it can be used, or waits for approval
}

// members lists who is in an organization.
func (c *Console) members(w http.ResponseWriter, v *visit) error {
	return c.renderMembers(w, v, http.StatusOK, membersPage{Done: v.told(), Role: "member", InviteRole: "member"})
}

func (c *Console) renderMembers(w http.ResponseWriter, v *visit, status int, p membersPage) error {
	m, err := v.office()
	if err != nil {
		return err
	}
	p.Organization = m
	query, after := url.Values{"type": {"frontend"}}, v.r.URL.Query().Get("after")
	if p.First = after == ""; !p.First {
		query.Set("continuationToken", after)
	}
	var list wireMemberList
	if err := v.api().get(query, &list, "orgs", m.Login, "members"); err != nil {
		return err
	}
	source := c.sources(v, m)
	for _, row := range list.Members {
		p.Members = append(p.Members, memberRow{
			Login: row.User.Login, Name: row.User.Name, Email: row.User.Email, Role: row.Role, Since: row.Created.Time(), Source: source(row.Source), You: row.User.Login == v.who.Login,
		})
	}
	if list.Next != "" {
		p.Next = m.Path("settings", "members") + "?" + url.Values{"after": {list.Next}}.Encode()
	}
	if m.Admin() && p.First {
		if err := v.invitations(&p); err != nil {
			return err
		}
	}
	return c.render(w, v, status, "members", v.part(m, "members", "Members", p))
}

// invitations adds the invites to a page. Those that were used or taken back are
// history, which the audit log tells.
func (v *visit) invitations(p *membersPage) error {
	query := url.Values{}
	if after := v.r.URL.Query().Get("invites"); after != "" {
		query.Set("continuationToken", after)
	}
	var list wireInviteList
	err := v.api().get(query, &list, "orgs", p.Organization.Login, "invites")
	if kind := errs.KindOf(err); err != nil && (kind == errs.Forbidden || kind == errs.NotFound) {
		return nil
	} else if err != nil {
		return err
	}
	for _, i := range list.Invites {
		if i.Status == "accepted" || i.Status == "canceled" {
			continue
		}
		p.Invites = append(p.Invites, invitation{i, seconds(i.Sent), seconds(i.Expires), i.Status != "expired"})
	}
	if list.Next != "" {
		p.InvitesNext = p.Organization.Path("settings", "members") + "?" + url.Values{"invites": {list.Next}}.Encode()
	}
	return nil
}

// sources returns what to call the connector behind a membership.
func (c *Console) sources(v *visit, m wireMetadata) func(connector string) string {
	known := map[string]string{"": ""}
	return func(connector string) string {
		text, ok := known[connector]
		if ok {
			return text
		}
		text = connector
		switch p, err := c.provider(v.r.Context(), connector); {
		case strings.HasPrefix(connector, "saml:"):
			text = "single sign-on"
		case err == nil:
			if text = p.info.Title; m.Backing != "" && m.Kind == string(p.info.Kind) {
				text += " " + m.Backing
			}
		}
		known[connector] = text
		return text
	}
}

func (c *Console) addMember(w http.ResponseWriter, v *visit) error {
	form, err := v.form(w)
	if err != nil {
		return err
	}
	n, err := v.names()
	if err != nil {
		return err
	}
	p := membersPage{Login: strings.TrimSpace(form.Get("login")), Role: form.Get("role"), InviteRole: "member"}
	again := func(status int, problem string) error {
		p.AddProblem = problem
		return c.renderMembers(w, v, status, p)
	}
	if !validName(p.Login) {
		return again(http.StatusBadRequest, "Give the login of somebody who has an account here.")
	}
	err = v.api().call(http.MethodPost, nil, map[string]string{"role": p.Role}, nil, "orgs", n.Organization, "members", p.Login)
	if errors.Is(err, errs.NotFound) {
		return again(http.StatusNotFound, "Nobody here has the login "+p.Login+". Invite them by mail or by link instead.")
	}
	return c.after(w, v, err, n.Path("settings", "members")+"?done=added", again)
}

func (c *Console) changeRole(w http.ResponseWriter, v *visit) error {
	form, err := v.form(w)
	if err != nil {
		return err
	}
	n, err := v.names()
	if err != nil {
		return err
	}
	login := form.Get("login")
	if !validName(login) {
		return errNoPage
	}
	err = v.api().call(http.MethodPatch, nil, map[string]string{"role": form.Get("role")}, nil, "orgs", n.Organization, "members", login)
	return c.after(w, v, err, n.Path("settings", "members")+"?done=role", func(status int, problem string) error {
		return c.renderMembers(w, v, status, membersPage{Problem: problem, Role: "member", InviteRole: "member"})
	})
}

// removal asks before somebody or something goes.
type removal struct {
	Organization wireMetadata
	What         string // the name of it
	Title        string
	Problem      string
	Detail       string
}

func (c *Console) removeMemberForm(w http.ResponseWriter, v *visit) error {
	return c.renderRemoveMember(w, v, http.StatusOK, "")
}

func (c *Console) renderRemoveMember(w http.ResponseWriter, v *visit, status int, problem string) error {
	m, err := v.office()
	if err != nil {
		return err
	}
	login := v.r.PathValue("user")
	if !validName(login) {
		return errNoPage
	}
	return c.render(w, v, status, "member-remove", v.ask(m, "Remove a member", removal{Organization: m, What: login, Problem: problem}))
}

func (c *Console) removeMember(w http.ResponseWriter, v *visit) error {
	if _, err := v.form(w); err != nil {
		return err
	}
	n, err := v.names()
	if err != nil {
		return err
	}
	err = v.api().call(http.MethodDelete, nil, nil, nil, "orgs", n.Organization, "members", v.r.PathValue("user"))
	to := n.Path("settings", "members") + "?done=removed"
	if v.r.PathValue("user") == v.who.Login {
		to = "/"
	}
	return c.after(w, v, err, to, func(status int, problem string) error {
		return c.renderRemoveMember(w, v, status, problem)
	})
}

// addresses splits what somebody typed into a field for several.
func addresses(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" \t\r\n,;", r) })
}

// inviteMembers invites addresses, and says what became of each. The links are on the
// answer and nowhere else.
func (c *Console) inviteMembers(w http.ResponseWriter, v *visit) error {
	form, err := v.form(w)
	if err != nil {
		return err
	}
	n, err := v.names()
	if err != nil {
		return err
	}
	p := membersPage{Emails: form.Get("emails"), InviteRole: form.Get("role"), Role: "member"}
	var list []map[string]string
	for _, address := range addresses(p.Emails) {
		list = append(list, map[string]string{"email": address, "role": p.InviteRole})
	}
	if len(list) == 0 {
		p.InviteProblem = "Give at least one address."
		return c.renderMembers(w, v, http.StatusBadRequest, p)
	}
	var answer struct {
		Sent   []wireInvite   `json:"sentInvites"`
		Failed []failedInvite `json:"failedInvites"`
	}
	err = v.api().call(http.MethodPost, nil, map[string]any{"invites": list}, &answer, "orgs", n.Organization, "invites", "batch")
	if p.InviteProblem = inForm(err); p.InviteProblem != "" {
		return c.renderMembers(w, v, httpapi.Status(err), p)
	} else if err != nil {
		return err
	}
	p.Sent, p.Failed, p.Emails = answer.Sent, answer.Failed, ""
	for i, f := range p.Failed {
		p.Emails += f.Email + "\n" // to be mended and sent again
		p.Failed[i].Error = sentence(f.Error)
	}
	return c.renderMembers(w, v, http.StatusOK, p)
}

// inviteLink makes a link that one person can use, and shows it this once.
func (c *Console) inviteLink(w http.ResponseWriter, v *visit) error {
	form, err := v.form(w)
	if err != nil {
		return err
	}
	n, err := v.names()
	if err != nil {
		return err
	}
	return c.showLink(w, v, map[string]string{"role": form.Get("role")}, "orgs", n.Organization, "invites", "link")
}

func (c *Console) showLink(w http.ResponseWriter, v *visit, in any, segments ...string) error {
	p, made := membersPage{Role: "member", InviteRole: "member"}, new(wireInvite)
	err := v.api().call(http.MethodPost, nil, in, made, segments...)
	if p.LinkError = inForm(err); p.LinkError != "" {
		return c.renderMembers(w, v, httpapi.Status(err), p)
	} else if err != nil {
		return err
	}
	p.Link = made
	return c.renderMembers(w, v, http.StatusOK, p)
}

// changeInvite cancels, renews or approves an invite.
func (c *Console) changeInvite(w http.ResponseWriter, v *visit) error {
	form, err := v.form(w)
	if err != nil {
		return err
	}
	n, err := v.names()
	if err != nil {
		return err
	}
	id, done := v.r.PathValue("invite"), ""
	switch form.Get("do") {
	case "renew":
		return c.showLink(w, v, nil, "orgs", n.Organization, "invites", id, "resend")
	case "approve":
		err, done = v.api().call(http.MethodPost, nil, nil, nil, "orgs", n.Organization, "invites", id, "approve"), "approved"
	case "cancel":
		err, done = v.api().call(http.MethodDelete, nil, nil, nil, "orgs", n.Organization, "invites", id), "canceled"
	default:
		err = errs.Errorf(errs.Invalid, "say what is to become of the invite")
	}
	return c.after(w, v, err, n.Path("settings", "members")+"?done="+done, func(status int, problem string) error {
		return c.renderMembers(w, v, status, membersPage{LinkError: problem, Role: "member", InviteRole: "member"})
	})
}
