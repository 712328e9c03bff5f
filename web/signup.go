package web

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/identity/email"
	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
)

// The pages that are opened from a mail have a code in their address. Programs that
// look for dangerous links open them, too, so that a GET does nothing but show a form:
// what uses the code is its POST.

// linkPage is the form of a mail's link.
type linkPage struct {
	Code, Problem string
	Login, Email  string // of the account that it makes
}

// code returns the code of a page's address, and keeps it out of what the browser says
// of where it comes from. Under "no-referrer" it would send the form as if from nowhere.
func (v *visit) code(w http.ResponseWriter) string {
	code := v.r.URL.Query().Get("code")
	if code != "" {
		w.Header().Set("Referrer-Policy", "strict-origin")
	}
	return code
}

// badInput reports whether err is about what somebody typed.
func badInput(err error) bool {
	switch errs.KindOf(err) {
	case errs.Invalid, errs.Unprocessable, errs.Conflict:
		return true
	}
	return false
}

type signUpPage struct {
	Login, Name, Email, ReturnTo string
	Problem                      string
	Sent                         bool // a mail is on its way, or so it seems
}

// pendingSignUp is kept by the browser in which somebody signed up. Only there does
// the mail's link lead to a session: whoever gets a link for an account that somebody
// else has made up with their address must not work in it unawares.
type pendingSignUp struct {
	Email, ReturnTo string
	Expires         time.Time
}

const (
	signUpCookie = "signup"
	signUpLife   = 24 * time.Hour
)

func (c *Console) signUpForm(w http.ResponseWriter, v *visit) error {
	to := returnTo(v.r.URL.Query().Get("returnTo"))
	if err := c.maySignUp(v, to); err != nil {
		return err
	}
	return c.renderSignUp(w, v, http.StatusOK, signUpPage{ReturnTo: to})
}

// maySignUp is errNoSignUp where signing up is off, but for whoever comes from the page
// of an invite that can still be used.
func (c *Console) maySignUp(v *visit, returnTo string) error {
	settings := c.config.Email.Settings()
	if settings.SignUp {
		return nil
	}
	secret := inviteIn(returnTo)
	if !settings.PasswordLogin || secret == "" {
		return errNoSignUp
	}
	if _, err := c.config.Directory.InviteBySecret(v.r.Context(), secret); errs.KindOf(err) == errs.NotFound {
		return errNoSignUp
	} else if err != nil {
		return err
	}
	return nil
}

// inviteIn returns the secret of the invite whose page a sign-up leads back to.
func inviteIn(returnTo string) string {
	u, err := url.Parse(returnTo)
	if err != nil || u.Path != "/invite" {
		return ""
	}
	return u.Query().Get("code")
}

var errNoSignUp = errs.Errorf(errs.NotFound, "signing up is switched off here: ask an administrator for an account")

func (c *Console) renderSignUp(w http.ResponseWriter, v *visit, status int, p signUpPage) error {
	title := "Sign up"
	if p.Sent {
		title = "Look into your mailbox"
	}
	return c.render(w, v, status, "signup", page{Title: title, Narrow: true, Body: p})
}

func (c *Console) signUp(w http.ResponseWriter, v *visit) error {
	form, err := v.form(w)
	if err != nil {
		return err
	}
	p := signUpPage{
		Login: strings.TrimSpace(form.Get("login")), Name: strings.TrimSpace(form.Get("name")), Email: strings.TrimSpace(form.Get("email")),
		ReturnTo: returnTo(form.Get("returnTo")),
	}
	if err := c.maySignUp(v, p.ReturnTo); err != nil {
		return err
	}
	if form.Get("password") != form.Get("again") {
		p.Problem = "The two passwords are not the same."
		return c.renderSignUp(w, v, http.StatusBadRequest, p)
	}
	err = c.config.Email.SignUp(v.r.Context(), email.SignUp{Login: p.Login, Name: p.Name, Email: p.Email, Password: form.Get("password"), Invite: inviteIn(p.ReturnTo)})
	if badInput(err) {
		p.Problem = sentence(errs.Public(err))
		return c.renderSignUp(w, v, httpapi.Status(err), p)
	} else if err != nil {
		return err
	}
	pending := pendingSignUp{Email: canonical(p.Email), ReturnTo: p.ReturnTo, Expires: c.config.Now().Add(signUpLife).UTC()}
	if text, err := c.boxes.signUp.SealText(pending); err == nil {
		c.setCookie(w, signUpCookie, text, signUpLife)
	}
	p.Sent = true
	return c.renderSignUp(w, v, http.StatusOK, p)
}

func canonical(address string) string {
	if c, err := identity.CanonicalEmail(address); err == nil {
		return c
	}
	return ""
}

func (c *Console) confirmSignUpForm(w http.ResponseWriter, v *visit) error {
	code := v.code(w)
	asked, err := c.config.Email.CheckSignUp(v.r.Context(), code)
	if err != nil {
		return c.badLink(w, v, err, "/signup", "Sign up again")
	}
	return c.render(w, v, http.StatusOK, "signup-confirm", page{Title: "Confirm your account", Narrow: true, Body: linkPage{Code: code, Login: asked.Login, Email: asked.Email}})
}

func (c *Console) confirmSignUp(w http.ResponseWriter, v *visit) error {
	form, err := v.form(w)
	if err != nil {
		return err
	}
	user, err := c.config.Email.ConfirmSignUp(v.r.Context(), form.Get("code"))
	if err != nil {
		return c.badLink(w, v, err, "/signup", "Sign up again")
	}
	pending, here := c.signedUpHere(v, user)
	c.dropCookie(w, signUpCookie)
	if !here {
		http.Redirect(w, v.r, "/signin?done=confirmed", http.StatusSeeOther)
		return nil
	}
	return c.begin(w, v, user.ID, pending.ReturnTo)
}

// signedUpHere returns what the browser keeps of the sign-up that made an account.
func (c *Console) signedUpHere(v *visit, user identity.User) (p pendingSignUp, ok bool) {
	opened := c.boxes.signUp.OpenText(c.cookieValue(v.r, signUpCookie), &p) == nil
	return p, opened && c.config.Now().Before(p.Expires) && p.Email != "" && p.Email == user.Email
}

// badLink answers the use of a link that is good for nothing. Which of the possible
// reasons it is, is nobody's business.
func (c *Console) badLink(w http.ResponseWriter, v *visit, err error, path, text string) error {
	switch errs.KindOf(err) {
	case errs.NotFound, errs.Invalid, errs.Unauthenticated, errs.Forbidden, errs.Conflict:
	default:
		return err
	}
	f := failure{
		Status: http.StatusBadRequest, Heading: "This link does not work", Path: path, PathText: text, RequestID: httpapi.RequestID(v.r.Context()),
		Message: "It has been used, it is too old, or a newer one has been sent.",
	}
	if errs.KindOf(err) == errs.Conflict {
		f.Status, f.Message = http.StatusConflict, sentence(errs.Public(err))
	}
	return c.renderFailure(w, v, f)
}

type forgotPage struct {
	Email, Problem string
	Sent           bool
}

func (c *Console) forgotForm(w http.ResponseWriter, v *visit) error {
	if !c.config.Email.Settings().PasswordLogin {
		return errNoPage
	}
	return c.renderForgot(w, v, http.StatusOK, forgotPage{})
}

func (c *Console) renderForgot(w http.ResponseWriter, v *visit, status int, p forgotPage) error {
	return c.render(w, v, status, "password-forgot", page{Title: "Forgotten password", Narrow: true, Body: p})
}

// forgot answers the same whether there is such an account or not.
func (c *Console) forgot(w http.ResponseWriter, v *visit) error {
	form, err := v.form(w)
	if err != nil {
		return err
	}
	if !c.config.Email.Settings().PasswordLogin {
		return errNoPage
	}
	p := forgotPage{Email: strings.TrimSpace(form.Get("email"))}
	err = c.config.Email.ForgotPassword(v.r.Context(), p.Email)
	if badInput(err) {
		p.Problem = sentence(errs.Public(err))
		return c.renderForgot(w, v, http.StatusBadRequest, p)
	} else if err != nil {
		return err
	}
	p.Sent = true
	return c.renderForgot(w, v, http.StatusOK, p)
}

func (c *Console) resetForm(w http.ResponseWriter, v *visit) error {
	code := v.code(w)
	if err := c.config.Email.CheckReset(v.r.Context(), code); err != nil {
		return c.badLink(w, v, err, "/password/forgot", "Ask for a new link")
	}
	return c.renderReset(w, v, http.StatusOK, linkPage{Code: code})
}

func (c *Console) renderReset(w http.ResponseWriter, v *visit, status int, p linkPage) error {
	return c.render(w, v, status, "password-reset", page{Title: "New password", Narrow: true, Body: p})
}

// reset sets a new password. It signs nobody in: the link proves neither the password
// nor the second factor.
func (c *Console) reset(w http.ResponseWriter, v *visit) error {
	form, err := v.form(w)
	if err != nil {
		return err
	}
	ctx, p := v.r.Context(), linkPage{Code: form.Get("code")}
	if form.Get("password") != form.Get("again") {
		p.Problem = "The two passwords are not the same."
		return c.renderReset(w, v, http.StatusBadRequest, p)
	}
	_, err = c.config.Email.ResetPassword(ctx, p.Code, form.Get("password"))
	if errors.Is(err, errs.Invalid) && c.config.Email.CheckReset(ctx, p.Code) == nil {
		p.Problem = sentence(errs.Public(err)) // it is the password that is not good enough
		return c.renderReset(w, v, http.StatusBadRequest, p)
	} else if err != nil {
		return c.badLink(w, v, err, "/password/forgot", "Ask for a new link")
	}
	http.Redirect(w, v.r, "/signin?done=reset", http.StatusSeeOther)
	return nil
}

func (c *Console) confirmEmailForm(w http.ResponseWriter, v *visit) error {
	return c.render(w, v, http.StatusOK, "email-confirm", page{Title: "Confirm your e-mail address", Narrow: true, Body: linkPage{Code: v.code(w)}})
}

func (c *Console) confirmEmail(w http.ResponseWriter, v *visit) error {
	form, err := v.form(w)
	if err != nil {
		return err
	}
	if err := c.config.Email.ConfirmEmail(v.r.Context(), form.Get("code")); err != nil {
		return c.badLink(w, v, err, "/user/settings/profile", "To your account")
	}
	http.Redirect(w, v.r, "/user/settings/profile?done=confirmed", http.StatusSeeOther)
	return nil
}

// withReturn returns a path of signing in that leads back to another.
func withReturn(path, to string) string {
	if to == "" || to == "/" {
		return path
	}
	return path + "?" + url.Values{"returnTo": {to}}.Encode()
}
