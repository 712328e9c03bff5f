package web

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/identity/email"
	"github.com/ipuka/ipuka/internal/errs"
)

// Email signs people in by e-mail address or login, and password, or by passkey, and
// keeps their second factors; see package email.
type Email interface {
	// Setup creates the first administrator and organization, once, for the bearer
	// of the setup code.
	Setup(ctx context.Context, code string, first identity.First, password string) (identity.User, identity.Organization, error)
	Settings() email.Settings

	// SignIn checks the first factor only: it returns the user, or errs.Unauthenticated
	// without a word on which of the two was wrong, or errs.Exhausted after too many
	// attempts.
	SignIn(ctx context.Context, loginOrEmail, password string) (identity.User, error)
	Factors(ctx context.Context, userID string) (email.Factors, error)
	// CheckTOTP and UseRecoveryCode check the second one.
	CheckTOTP(ctx context.Context, userID, code string) error
	UseRecoveryCode(ctx context.Context, userID, code string) error
	BeginPasskeySignIn(ctx context.Context) (options []byte, sealed string, err error)
	FinishPasskeySignIn(ctx context.Context, sealed string, response []byte) (identity.User, error)

	SignUp(ctx context.Context, s email.SignUp) error
	CheckSignUp(ctx context.Context, code string) (email.SignUp, error)
	ConfirmSignUp(ctx context.Context, code string) (identity.User, error)
	ForgotPassword(ctx context.Context, address string) error
	CheckReset(ctx context.Context, code string) error
	ResetPassword(ctx context.Context, code, password string) (identity.User, error)
	ConfirmEmail(ctx context.Context, code string) error

	ChangePassword(ctx context.Context, p identity.Principal, old, password string) error
	ChangeEmail(ctx context.Context, p identity.Principal, address string) error
	BeginTOTP(ctx context.Context, p identity.Principal) (email.TOTPEnrolment, error)
	ConfirmTOTP(ctx context.Context, p identity.Principal, sealed, code string) (recoveryCodes []string, err error)
	RemoveTOTP(ctx context.Context, p identity.Principal) error
	NewRecoveryCodes(ctx context.Context, p identity.Principal) ([]string, error)
	BeginPasskey(ctx context.Context, p identity.Principal) (options []byte, sealed string, err error)
	FinishPasskey(ctx context.Context, p identity.Principal, sealed, name string, response []byte) error
	Passkeys(ctx context.Context, userID string) ([]email.Passkey, error)
	RemovePasskey(ctx context.Context, p identity.Principal, id string) error

	SendInvite(ctx context.Context, invite identity.Invite, secret string) error
}

// signInRoutes are the pages that lead to a session.
func signInRoutes() []route {
	return []route{
		{"GET", "/signin", public, (*Console).signInForm},
		{"POST", "/signin", public, (*Console).signIn},
		{"POST", "/signin/passkey", public, (*Console).signInWithPasskey},
		{"GET", "/signin/second-factor", public, (*Console).secondFactorForm},
		{"POST", "/signin/second-factor", public, (*Console).secondFactor},
		{"GET", "/signin/again", signedIn, (*Console).againForm},
		{"POST", "/signin/again", signedIn, (*Console).again},
		{"POST", "/signin/again/passkey", signedIn, (*Console).againWithPasskey},
		{"POST", "/signin/again/with", signedIn, (*Console).againWith},
		{"POST", "/signout", public, (*Console).signOut},

		{"GET", "/signin/with/{connector}", public, (*Console).sendWith},
		{"GET", "/signin/with/{connector}/callback", public, (*Console).callbackWith},
		{"POST", "/signin/test", signedIn, (*Console).test},
		{"GET", "/signin/sso", public, (*Console).ssoForm},
		{"GET", "/signin/sso/{$}", public, (*Console).ssoForm},
		{"GET", "/signin/sso/{org}", public, (*Console).ssoStart},
		{"GET", "/signin/sso/{org}/reauth", public, (*Console).ssoAgain},
		{"GET", "/welcome/{org}/sso", public, (*Console).ssoWelcome},
		{"GET", "/login/{org}/sso", public, (*Console).ssoStart},
		{"GET", "/login/{org}/sso/saml/metadata", public, (*Console).ssoMetadata},
		{"POST", "/login/{org}/sso/saml/acs", public, (*Console).consumeAssertion},

		{"GET", "/signup", public, (*Console).signUpForm},
		{"POST", "/signup", public, (*Console).signUp},
		{"GET", "/signup/confirm", public, (*Console).confirmSignUpForm},
		{"POST", "/signup/confirm", public, (*Console).confirmSignUp},
		{"GET", "/password/forgot", public, (*Console).forgotForm},
		{"POST", "/password/forgot", public, (*Console).forgot},
		{"GET", "/password/reset", public, (*Console).resetForm},
		{"POST", "/password/reset", public, (*Console).reset},
		{"GET", "/email/confirm", public, (*Console).confirmEmailForm},
		{"POST", "/email/confirm", public, (*Console).confirmEmail},
		{"GET", "/invite", public, (*Console).inviteForm},
		{"POST", "/invite", signedIn, (*Console).acceptInvite},
	}
}

// signInPage is the form, as it was sent when that failed.
type signInPage struct {
	Login, ReturnTo string
	Problem, Done   string

	Connectors       []wayIn
	Password, SignUp bool
	Passkey          *passkeyForm
	Organization     string // of the last single sign-on
}

// wayIn is the button of a connector.
type wayIn struct {
	Name, Title, Path string
	Kind              identity.ConnectorKind
}

func (c *Console) signInForm(w http.ResponseWriter, v *visit) error {
	q := v.r.URL.Query()
	to := returnTo(q.Get("returnTo"))
	if v.in {
		http.Redirect(w, v.r, to, http.StatusSeeOther)
		return nil
	}
	return c.renderSignIn(w, v, http.StatusOK, signInPage{ReturnTo: to, Done: signInNotes[q.Get("done")]})
}

// signInNotes are what somebody has just done elsewhere.
var signInNotes = map[string]string{
	"confirmed": "The account is ready. Sign in with the password that was chosen for it.",
	"reset":     "The new password is set. Sign in with it.",
	"deleted":   "The account is deleted.",
	"late":      "That took too long. Sign in from the start.",
}

func (c *Console) renderSignIn(w http.ResponseWriter, v *visit, status int, p signInPage) error {
	settings := c.config.Email.Settings()
	p.Password, p.SignUp = settings.PasswordLogin, settings.SignUp
	p.Connectors = c.waysIn(p.ReturnTo)
	p.Organization = c.lastOrganization(v.r)
	var err error
	if p.Passkey, err = c.passkeyToSignIn(v, "/signin/passkey", p.ReturnTo); err != nil {
		return err
	}
	return c.render(w, v, status, "signin", page{Title: "Sign in", Narrow: true, Script: "passkey.js", Body: p})
}

func (c *Console) waysIn(to string) []wayIn {
	query := ""
	if to != "/" {
		query = "?" + url.Values{"returnTo": {to}}.Encode()
	}
	var all []wayIn
	for _, connector := range c.config.Connectors.Site() {
		info := connector.Info()
		all = append(all, wayIn{info.Name, info.Title, "/signin/with/" + url.PathEscape(info.Name) + query, info.Kind})
	}
	return all
}

func (c *Console) signIn(w http.ResponseWriter, v *visit) error {
	form, err := v.form(w)
	if err != nil {
		return err
	}
	p := signInPage{Login: strings.TrimSpace(form.Get("login")), ReturnTo: returnTo(form.Get("returnTo"))}
	if !c.config.Email.Settings().PasswordLogin {
		p.Problem = "Signing in with a password is switched off here."
		return c.renderSignIn(w, v, http.StatusForbidden, p)
	}
	user, err := c.config.Email.SignIn(v.r.Context(), p.Login, form.Get("password"))
	if err == nil {
		return c.afterPassword(w, v, user, p.ReturnTo)
	}
	status, problem := wrongPassword(w, err, "This login and password do not belong together.")
	if problem == "" {
		return err
	}
	p.Problem = problem
	return c.renderSignIn(w, v, status, p)
}

// wrongPassword returns what to say about a refused password, or "" for a fault. It is
// one answer for all reasons: which it was would tell who has an account here.
func wrongPassword(w http.ResponseWriter, err error, text string) (int, string) {
	switch errs.KindOf(err) {
	case errs.Unauthenticated, errs.Invalid, errs.Forbidden:
		return http.StatusUnauthorized, text
	case errs.Exhausted:
		w.Header().Set("Retry-After", "60")
		return http.StatusTooManyRequests, sentence(errs.Public(err))
	}
	return 0, ""
}

// begin starts a session of somebody who has proved to be a user, and sends the
// visitor on.
func (c *Console) begin(w http.ResponseWriter, v *visit, userID, to string) error {
	secret, _, err := c.config.Directory.CreateSession(v.r.Context(), userID, identity.EmailConnector)
	if err != nil {
		return err
	}
	return c.enter(w, v, secret, to)
}

// enter has the browser keep a session that has just begun, always a new one. A
// session that the browser had before is ended: nobody signs in into a session that
// another person began.
func (c *Console) enter(w http.ResponseWriter, v *visit, secret, to string) error {
	if v.in {
		if err := c.config.Directory.EndSession(v.r.Context(), v.who); err != nil {
			return err
		}
	}
	c.setCookie(w, "", secret, 0)
	http.Redirect(w, v.r, to, http.StatusSeeOther)
	return nil
}

func (c *Console) signOut(w http.ResponseWriter, v *visit) error {
	if v.in {
		if err := c.config.Directory.EndSession(v.r.Context(), v.who); err != nil {
			return err
		}
	}
	c.dropCookie(w, "")
	c.dropCookie(w, halfCookie)
	http.Redirect(w, v.r, "/signin", http.StatusSeeOther)
	return nil
}

// returnTo returns the path of this console that a sign-in leads to, and "/" for
// anything that a browser could take for another site.
func returnTo(text string) string {
	u, err := url.Parse(text)
	if err != nil || len(text) > 2048 || !strings.HasPrefix(text, "/") || u.Scheme != "" || u.Host != "" || u.User != nil ||
		u.Path != path.Clean(u.Path) && u.Path != path.Clean(u.Path)+"/" || strings.ContainsFunc(u.Path, notInPath) ||
		strings.HasPrefix(u.Path, "/api/") || notReturnedTo(u.Path) {
		return "/"
	}
	return u.RequestURI()
}

// notInPath matches what browsers read as a slash, cut off, or end a header with.
func notInPath(r rune) bool { return r == '\\' || r < ' ' || r == 0x7f }

// notReturnedTo reports whether a path is a step of signing in itself.
func notReturnedTo(path string) bool {
	return path == "/signin" || path == "/signout" || path == "/setup" || path == "/signup" ||
		strings.HasPrefix(path, "/signin/") || strings.HasPrefix(path, "/signup/") || strings.HasPrefix(path, "/login/") || strings.HasPrefix(path, "/password/")
}

// fresh reports whether the visitor has signed in lately. If not, it sends them to do
// so again, and back to a page afterwards.
func (c *Console) fresh(w http.ResponseWriter, v *visit, to string) (bool, error) {
	err := c.config.Directory.RequireFresh(v.r.Context(), v.who)
	if errors.Is(err, identity.ErrStepUp) {
		http.Redirect(w, v.r, "/signin/again?"+url.Values{"returnTo": {to}}.Encode(), http.StatusSeeOther)
		return false, nil
	}
	return err == nil, err
}
