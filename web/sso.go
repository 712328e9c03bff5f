package web

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/errs"
)

// ssoPage asks for the organization whose single sign-on somebody wants to use, or
// explains why a command sent them to that of one.
type ssoPage struct {
	Organization, ReturnTo, Problem string

	Title  string // of the organization's connector
	Link   bool   // who is signed in has not linked it to the account
	Name   string // of the connector
	Signed string // login of who is signed in
}

// The cookie that keeps the organization of the last single sign-on.
const (
	lastSSO     = "sso"
	lastSSOLife = 365 * 24 * time.Hour
)

func (c *Console) lastOrganization(r *http.Request) string {
	if last := c.cookieValue(r, lastSSO); validName(last) {
		return last
	}
	return ""
}

// ssoForm asks for an organization's name, and sends who gave one to its provider.
func (c *Console) ssoForm(w http.ResponseWriter, v *visit) error {
	q := v.r.URL.Query()
	p := ssoPage{Organization: strings.TrimSpace(q.Get("organization")), ReturnTo: returnTo(q.Get("returnTo"))}
	if p.Organization == "" {
		p.Organization = c.lastOrganization(v.r)
		return c.renderSSO(w, v, http.StatusOK, p)
	}
	return c.sendSSO(w, v, p)
}

// ssoStart sends the browser to an organization's provider.
func (c *Console) ssoStart(w http.ResponseWriter, v *visit) error {
	return c.sendSSO(w, v, ssoPage{Organization: v.r.PathValue("org"), ReturnTo: returnTo(v.r.URL.Query().Get("returnTo"))})
}

func (c *Console) sendSSO(w http.ResponseWriter, v *visit, page ssoPage) error {
	p, err := c.organizationProvider(v.r.Context(), page.Organization)
	if errors.Is(err, errs.NotFound) {
		page.Problem = sentence(errs.Public(err))
		return c.renderSSO(w, v, http.StatusNotFound, page)
	} else if err != nil {
		return err
	}
	c.setCookie(w, lastSSO, p.organization.Login, lastSSOLife)
	return c.send(w, v, p, toSignIn, page.ReturnTo)
}

func (c *Console) renderSSO(w http.ResponseWriter, v *visit, status int, p ssoPage) error {
	return c.render(w, v, status, "signin-sso", page{Title: "Single sign-on", Narrow: true, Body: p})
}

// ssoAgain is where the pulumi command points people whose single sign-on has run out,
// or who have never used it.
func (c *Console) ssoAgain(w http.ResponseWriter, v *visit) error {
	p, err := c.organizationProvider(v.r.Context(), v.r.PathValue("org"))
	if errors.Is(err, errs.NotFound) {
		return c.renderSSO(w, v, http.StatusNotFound, ssoPage{Organization: v.r.PathValue("org"), ReturnTo: "/", Problem: sentence(errs.Public(err))})
	} else if err != nil {
		return err
	}
	body := ssoPage{Organization: p.organization.Login, Title: p.info.Title, Name: p.info.Name, ReturnTo: returnTo(v.r.URL.Query().Get("returnTo"))}
	if body.ReturnTo == "/" {
		body.ReturnTo = "/welcome/" + p.organization.Login + "/sso"
	}
	if v.in && v.who.ManagedBy == "" {
		identities, err := c.config.Directory.Identities(v.r.Context(), v.who.UserID)
		if err != nil {
			return err
		}
		body.Signed = v.who.Login
		body.Link = !slices.ContainsFunc(identities, func(i identity.Identity) bool { return i.Connector == p.info.Name })
	}
	return c.render(w, v, http.StatusOK, "signin-reauth", page{Title: "Single sign-on of " + p.organization.Login, Narrow: true, Body: body})
}

// ssoWelcome is where that ends.
func (c *Console) ssoWelcome(w http.ResponseWriter, v *visit) error {
	n, err := v.names()
	if err != nil {
		return err
	}
	return c.render(w, v, http.StatusOK, "welcome-sso", page{Title: "You are signed in", Narrow: true, Body: n.Organization})
}

// ssoMetadata is what an organization's identity provider is set up with.
func (c *Console) ssoMetadata(w http.ResponseWriter, v *visit) error {
	n, err := v.names()
	if err != nil {
		return err
	}
	if c.config.Metadata == nil {
		return errNoSSO
	}
	text, err := c.config.Metadata.Metadata(v.r.Context(), n.Organization)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "application/samlmetadata+xml")
	h.Set("Content-Disposition", `attachment; filename="ipuka-`+url.PathEscape(n.Organization)+`.xml"`)
	_, _ = w.Write(text) // a reader who has gone away needs no answer
	return nil
}
