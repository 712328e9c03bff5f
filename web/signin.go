package web

import (
	"context"
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
)

// Email signs people in by e-mail address or login, and password.
type Email interface {
	// SignIn returns the user, or errs.Unauthenticated without a word on which of
	// the two was wrong, or errs.Exhausted after too many attempts.
	SignIn(ctx context.Context, loginOrEmail, password string) (identity.User, error)
	// Setup creates the first administrator and organization, once, for the bearer
	// of the setup code.
	Setup(ctx context.Context, code string, first identity.First, password string) (identity.User, identity.Organization, error)
}

// connector is how sessions say that a password began them.
const connector = "email"

// signInPage is the form, as it was sent when that failed.
type signInPage struct {
	Login, ReturnTo, Problem string
}

func (c *Console) signInForm(w http.ResponseWriter, v *visit) error {
	to := returnTo(v.r.URL.Query().Get("returnTo"))
	if v.in {
		http.Redirect(w, v.r, to, http.StatusSeeOther)
		return nil
	}
	return c.renderSignIn(w, v, http.StatusOK, signInPage{ReturnTo: to})
}

func (c *Console) renderSignIn(w http.ResponseWriter, v *visit, status int, p signInPage) error {
	return c.render(w, v, status, "signin", page{Title: "Sign in", Narrow: true, Body: p})
}

func (c *Console) signIn(w http.ResponseWriter, v *visit) error {
	form, err := v.form(w)
	if err != nil {
		return err
	}
	p := signInPage{Login: strings.TrimSpace(form.Get("login")), ReturnTo: returnTo(form.Get("returnTo"))}
	user, err := c.config.Email.SignIn(v.r.Context(), p.Login, form.Get("password"))
	if err == nil {
		return c.begin(w, v, user.ID, p.ReturnTo)
	}
	switch errs.KindOf(err) {
	case errs.Unauthenticated, errs.Invalid, errs.Forbidden:
		// One answer for all of them: which it was would tell who has an account here.
		p.Problem = "This login and password do not belong together."
		return c.renderSignIn(w, v, http.StatusUnauthorized, p)
	case errs.Exhausted:
		p.Problem = sentence(errs.Public(err))
		w.Header().Set("Retry-After", "60")
		return c.renderSignIn(w, v, http.StatusTooManyRequests, p)
	}
	return err
}

// begin starts a session, always a new one, and sends the visitor on. A session that
// the browser had before is ended: nobody signs in into a session that another
// person began.
func (c *Console) begin(w http.ResponseWriter, v *visit, userID, to string) error {
	secret, _, err := c.config.Directory.CreateSession(v.r.Context(), userID, connector)
	if err != nil {
		return err
	}
	if v.in {
		if err := c.config.Directory.EndSession(v.r.Context(), v.who); err != nil {
			return err
		}
	}
	c.setCookie(w, secret)
	http.Redirect(w, v.r, to, http.StatusSeeOther)
	return nil
}

func (c *Console) signOut(w http.ResponseWriter, v *visit) error {
	if v.in {
		if err := c.config.Directory.EndSession(v.r.Context(), v.who); err != nil {
			return err
		}
	}
	c.dropCookie(w)
	http.Redirect(w, v.r, "/signin", http.StatusSeeOther)
	return nil
}

// returnTo returns the path of this console that a sign-in leads to, and "/" for
// anything that a browser could take for another site.
func returnTo(text string) string {
	u, err := url.Parse(text)
	if err != nil || len(text) > 2048 || !strings.HasPrefix(text, "/") || u.Scheme != "" || u.Host != "" || u.User != nil ||
		u.Path != path.Clean(u.Path) && u.Path != path.Clean(u.Path)+"/" || strings.ContainsFunc(u.Path, notInPath) ||
		strings.HasPrefix(u.Path, "/api/") || u.Path == "/signin" || u.Path == "/signout" || u.Path == "/setup" {
		return "/"
	}
	return u.RequestURI()
}

// notInPath matches what browsers read as a slash, cut off, or end a header with.
func notInPath(r rune) bool { return r == '\\' || r < ' ' || r == 0x7f }

// singleSignOn stands where the pulumi command points people whose organization
// signs them in. No such way is set up here.
func (c *Console) singleSignOn(http.ResponseWriter, *visit) error {
	return errs.Errorf(errs.NotFound, "this installation has no single sign-on")
}

// setupPage is the form, as it was sent when that failed.
type setupPage struct {
	Code                             string
	Organization, Login, Name, Email string
	Problem                          string
}

// setupForm is there for the bearer of the code that the server printed, and until
// there is a user. Nobody becomes administrator by arriving first.
func (c *Console) setupForm(w http.ResponseWriter, v *visit) error {
	code := v.r.URL.Query().Get("code")
	if err := c.config.Directory.CheckSetupCode(v.r.Context(), code); err != nil {
		return err
	}
	return c.renderSetup(w, v, http.StatusOK, setupPage{Code: code})
}

func (c *Console) renderSetup(w http.ResponseWriter, v *visit, status int, p setupPage) error {
	return c.render(w, v, status, "setup", page{Title: "Set up Ipuka", Narrow: true, Body: p})
}

func (c *Console) setup(w http.ResponseWriter, v *visit) error {
	form, err := v.form(w)
	if err != nil {
		return err
	}
	p := setupPage{
		Code: form.Get("code"), Organization: strings.TrimSpace(form.Get("organization")), Login: strings.TrimSpace(form.Get("login")),
		Name: strings.TrimSpace(form.Get("name")), Email: strings.TrimSpace(form.Get("email")),
	}
	if form.Get("password") != form.Get("again") {
		p.Problem = "The two passwords are not the same."
		return c.renderSetup(w, v, http.StatusBadRequest, p)
	}
	first := identity.First{Login: p.Login, Name: p.Name, Email: p.Email, Organization: p.Organization}
	user, _, err := c.config.Email.Setup(v.r.Context(), p.Code, first, form.Get("password"))
	if kind := errs.KindOf(err); err != nil && (kind == errs.Invalid || kind == errs.Unprocessable) {
		p.Problem = sentence(errs.Public(err))
		return c.renderSetup(w, v, httpapi.Status(err), p)
	} else if err != nil {
		return err
	}
	return c.begin(w, v, user.ID, "/")
}
