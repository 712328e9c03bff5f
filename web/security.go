package web

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/ipuka/ipuka/internal/errs"
)

// policy is the Content-Security-Policy of every page. Nothing is loaded from
// elsewhere, nothing runs that is not one of our files, and nobody may frame a page.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; " +
	"form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

// policyToLoopback lets the form of the one page that needs it end, by a redirect,
// at the listener of a pulumi command on the visitor's machine.
func policyToLoopback(port int) string {
	return strings.Replace(policy, "form-action 'self'", "form-action 'self' http://127.0.0.1:"+strconv.Itoa(port), 1)
}

func (c *Console) setHeaders(h http.Header) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	// Not "no-referrer": under that, browsers send forms with "Origin: null", which
	// cannot be told from a form in a sandboxed frame. Other sites get nothing either way.
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	if c.secure {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
}

// guard refuses methods that no page has, and every request that could change
// something unless a page of the console sent it. Browsers say where a form comes
// from; who says nothing is not a browser that anybody signs in with.
func (c *Console) guard(r *http.Request) error {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		return nil
	case http.MethodPost:
	default:
		return errs.Errorf(errs.NotAllowed, "the console has no such method")
	}
	if assertionConsumer(r.URL) {
		return nil
	}
	if err := c.origin.Check(r); err != nil || !c.ownOrigin(r) {
		return errs.Errorf(errs.Forbidden, "this was not sent by a page of this console, open the page again and repeat it there")
	}
	return nil
}

// assertionConsumer reports whether u is the one address that other sites send forms
// to: identity providers answer there (SAML 2.0 Bindings §3.5). What counts is in the
// signed answer, and in the cookie of the flow that it answers.
func assertionConsumer(u *url.URL) bool {
	rest, ok := strings.CutPrefix(u.Path, "/login/")
	organization, ok2 := strings.CutSuffix(rest, "/sso/saml/acs")
	return ok && ok2 && u.RawPath == "" && validName(organization)
}

// policyToPost lets the form of the one page that needs it go to an identity provider.
func policyToPost(to *url.URL) string {
	return strings.Replace(policy, "form-action 'self'", "form-action "+to.Scheme+"://"+to.Host, 1)
}

// ownOrigin is stricter than http.CrossOriginProtection, which lets requests pass
// that say nothing of where they come from, and does not compare schemes.
func (c *Console) ownOrigin(r *http.Request) bool {
	switch origins := r.Header.Values("Origin"); len(origins) {
	case 0:
		return r.Header.Get("Sec-Fetch-Site") != ""
	case 1:
		return origins[0] == c.scheme()+"://"+r.Host || origins[0] == c.url.Scheme+"://"+c.url.Host
	}
	return false
}

func (c *Console) scheme() string {
	if c.secure {
		return "https"
	}
	return "http"
}
