package web

import (
	"errors"
	"net/http"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
)

// trialPage shows an administrator what a connector says about somebody, and what
// signing in with it would do. Nothing of it is stored.
type trialPage struct {
	Title, Back string

	Subject, Login, Name, Email string
	Verified                    bool
	Attributes                  []attribute
	Groups                      []identity.Group
	GroupsSaid                  bool // the provider says anything about groups
	Outcome                     string
	Works                       bool

	Reason, Detail string // why it was refused
	RequestID      string
}

type attribute struct {
	Name   string
	Values []string
}

// test sends an administrator to a provider to see whether it works. It is for those
// who set the connector up: site administrators, and administrators of the
// organization that it belongs to.
func (c *Console) test(w http.ResponseWriter, v *visit) error {
	form, err := v.form(w)
	if err != nil {
		return err
	}
	p, err := c.provider(v.r.Context(), form.Get("connector"))
	if err != nil {
		return err
	}
	if allowed, err := c.administers(v, p); err != nil {
		return err
	} else if !allowed {
		return errs.Errorf(errs.Forbidden, "testing %s is for administrators", p.info.Title)
	}
	return c.send(w, v, p, toTest, returnTo(form.Get("returnTo")))
}

func (c *Console) administers(v *visit, p provider) (bool, error) {
	if p.info.OrganizationID == "" || v.who.SiteAdmin {
		return v.who.SiteAdmin, nil
	}
	memberships, err := c.config.Directory.Organizations(v.r.Context(), v.who.UserID)
	for _, m := range memberships {
		if m.Organization.ID == p.info.OrganizationID && m.Role == identity.RoleAdmin {
			return true, err
		}
	}
	return false, err
}

// showTest shows what the provider said to the browser that asked.
func (c *Console) showTest(w http.ResponseWriter, v *visit, p provider, f flow, x identity.External) error {
	body := trialPage{
		Title: p.info.Title, Back: f.ReturnTo, Subject: x.Subject, Login: x.Login, Name: x.Name, Email: x.Email, Verified: x.EmailVerified,
		Groups: x.Groups, GroupsSaid: x.Groups != nil, Works: true,
	}
	for _, name := range sortedKeys(x.Attributes) {
		body.Attributes = append(body.Attributes, attribute{name, x.Attributes[name]})
	}
	owner, err := c.config.Directory.UserByIdentity(v.r.Context(), identity.Identity{Connector: p.info.Name, Subject: x.Subject})
	switch {
	case err == nil && !owner.Disabled.IsZero():
		body.Outcome, body.Works = "This identity is that of "+owner.Login+", whose account is disabled.", false
	case err == nil:
		body.Outcome = "This identity signs in as " + owner.Login + "."
	case !errors.Is(err, errs.NotFound):
		return err
	case p.info.SignUp:
		body.Outcome = "Nobody has this identity yet. Signing in with it makes an account, if the person may have one."
	default:
		body.Outcome, body.Works = "Nobody has this identity, and this connector makes no accounts: signing in is refused until somebody has linked it.", false
	}
	return c.renderTrial(w, v, http.StatusOK, body)
}

// showRefusal shows an administrator who tests a connector why it refused them.
func (c *Console) showRefusal(w http.ResponseWriter, v *visit, p provider, f flow, err, shown error) error {
	c.logFault(v, shown)
	body := trialPage{Title: p.info.Title, Back: f.ReturnTo, RequestID: httpapi.RequestID(v.r.Context()), Reason: string(errs.KindOf(shown))}
	var refusal *identity.Refusal
	if errors.As(err, &refusal) {
		body.Reason, body.Detail = refusal.Reason, refusal.Detail
	} else {
		body.Detail = errs.Public(shown)
	}
	return c.renderTrial(w, v, http.StatusOK, body)
}

func (c *Console) renderTrial(w http.ResponseWriter, v *visit, status int, p trialPage) error {
	return c.render(w, v, status, "signin-trial", page{Title: "Test of " + p.Title, Body: p})
}
