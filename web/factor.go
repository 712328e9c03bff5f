package web

import (
	"crypto/rand"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/errs"
)

// half is a browser that has given a right password of somebody who also has a second
// factor. It has no session and is signed out for every page but the one that asks for
// that factor.
type half struct {
	ID         string // each is good for one sign-in
	UserID     string
	Generation int64  // of the user's sessions: a new password makes it worthless
	SessionID  string // of who is signed in and confirms it
	ReturnTo   string
	Expires    time.Time
}

const (
	halfCookie = "half"
	halfLife   = 10 * time.Minute
)

// afterPassword goes on after a right password: with a session, or with the question
// for the second factor.
func (c *Console) afterPassword(w http.ResponseWriter, v *visit, user identity.User, to string) error {
	factors, err := c.config.Email.Factors(v.r.Context(), user.ID)
	if err != nil {
		return err
	}
	if !factors.MFA() {
		return c.begin(w, v, user.ID, to)
	}
	h := half{ID: rand.Text(), UserID: user.ID, SessionID: v.who.SessionID, ReturnTo: to, Expires: c.config.Now().Add(halfLife).UTC()}
	if h.Generation, err = c.config.Directory.SessionGeneration(v.r.Context(), user.ID); err != nil {
		return err
	}
	text, err := c.boxes.half.SealText(h)
	if err != nil {
		return err
	}
	c.setCookie(w, halfCookie, text, halfLife)
	http.Redirect(w, v.r, "/signin/second-factor", http.StatusSeeOther)
	return nil
}

// halfSignedIn returns who has given a right password in this browser.
func (c *Console) halfSignedIn(v *visit) (h half, ok bool, err error) {
	opened := c.boxes.half.OpenText(c.cookieValue(v.r, halfCookie), &h) == nil
	if !opened || !c.config.Now().Before(h.Expires) || h.SessionID != v.who.SessionID {
		return half{}, false, nil
	}
	generation, err := c.config.Directory.SessionGeneration(v.r.Context(), h.UserID)
	return h, err == nil && generation == h.Generation, err
}

type factorPage struct {
	Recovery bool // asks for a recovery code
	Problem  string
}

func (c *Console) secondFactorForm(w http.ResponseWriter, v *visit) error {
	if _, ok, err := c.halfSignedIn(v); err != nil {
		return err
	} else if !ok {
		return c.startAgain(w, v)
	}
	return c.renderFactor(w, v, http.StatusOK, factorPage{Recovery: v.r.URL.Query().Has("recovery")})
}

// startAgain sends the visitor back to the first step.
func (c *Console) startAgain(w http.ResponseWriter, v *visit) error {
	to := "/signin"
	if c.cookieValue(v.r, halfCookie) != "" {
		c.dropCookie(w, halfCookie)
		to += "?done=late"
	}
	http.Redirect(w, v.r, to, http.StatusSeeOther)
	return nil
}

func (c *Console) renderFactor(w http.ResponseWriter, v *visit, status int, p factorPage) error {
	return c.render(w, v, status, "second-factor", page{Title: "Second factor", Narrow: true, Body: p})
}

func (c *Console) secondFactor(w http.ResponseWriter, v *visit) error {
	form, err := v.form(w)
	if err != nil {
		return err
	}
	ctx := v.r.Context()
	h, ok, err := c.halfSignedIn(v)
	if err != nil {
		return err
	} else if !ok {
		return c.startAgain(w, v)
	}
	p := factorPage{Recovery: form.Has("recovery")}
	if p.Recovery {
		err = c.config.Email.UseRecoveryCode(ctx, h.UserID, strings.TrimSpace(form.Get("recovery")))
	} else {
		err = c.config.Email.CheckTOTP(ctx, h.UserID, form.Get("code"))
	}
	if err != nil {
		text := "This code is not right, or has been used. Wait for the next one."
		if p.Recovery {
			text = "This is none of the recovery codes, or it has been used."
		}
		status, problem := wrongPassword(w, err, text)
		if problem == "" {
			return err
		}
		p.Problem = problem
		return c.renderFactor(w, v, status, p)
	}
	c.dropCookie(w, halfCookie)
	if err := c.config.Directory.Consume(ctx, "half:"+h.ID, h.Expires); errors.Is(err, errs.Conflict) {
		return c.startAgain(w, v)
	} else if err != nil {
		return err
	}
	return c.begin(w, v, h.UserID, h.ReturnTo)
}

// againPage asks who is signed in to prove once more that it is they.
type againPage struct {
	ReturnTo, Problem string
	Password          bool
	Passkey           *passkeyForm
	Connectors        []wayIn // those that the account has an identity at
}

func (c *Console) againForm(w http.ResponseWriter, v *visit) error {
	return c.renderAgain(w, v, http.StatusOK, againPage{ReturnTo: returnTo(v.r.URL.Query().Get("returnTo"))})
}

func (c *Console) renderAgain(w http.ResponseWriter, v *visit, status int, p againPage) error {
	ctx := v.r.Context()
	factors, err := c.config.Email.Factors(ctx, v.who.UserID)
	if err != nil {
		return err
	}
	p.Password = factors.Password && c.config.Email.Settings().PasswordLogin
	if factors.Passkeys > 0 {
		if p.Passkey, err = c.passkeyToSignIn(v, "/signin/again/passkey", p.ReturnTo); err != nil {
			return err
		}
	}
	identities, err := c.config.Directory.Identities(ctx, v.who.UserID)
	if err != nil {
		return err
	}
	for _, name := range connectorsOf(identities) {
		found, err := c.config.Connectors.Find(ctx, name)
		if errors.Is(err, errs.NotFound) {
			continue // e-mail and password, or one that is not configured any more
		} else if err != nil {
			return err
		}
		info := found.Info()
		p.Connectors = append(p.Connectors, wayIn{Name: info.Name, Title: info.Title, Kind: info.Kind})
	}
	return c.render(w, v, status, "signin-again", page{Title: "Confirm that it is you", Narrow: true, Script: "passkey.js", Body: p})
}

// connectorsOf returns each connector of some identities once.
func connectorsOf(identities []identity.Identity) []string {
	var names []string
	for _, i := range identities {
		if !slices.Contains(names, i.Connector) {
			names = append(names, i.Connector)
		}
	}
	return names
}

// again takes the password of who is signed in.
func (c *Console) again(w http.ResponseWriter, v *visit) error {
	form, err := v.form(w)
	if err != nil {
		return err
	}
	p := againPage{ReturnTo: returnTo(form.Get("returnTo"))}
	user, err := c.config.Email.SignIn(v.r.Context(), v.who.Login, form.Get("password"))
	if err == nil && user.ID == v.who.UserID {
		return c.afterPassword(w, v, user, p.ReturnTo)
	}
	status, problem := wrongPassword(w, err, "The password is not right.")
	if problem == "" {
		return err
	}
	p.Problem = problem
	return c.renderAgain(w, v, status, p)
}

// againWith sends who is signed in to a provider of theirs.
func (c *Console) againWith(w http.ResponseWriter, v *visit) error {
	form, err := v.form(w)
	if err != nil {
		return err
	}
	p, err := c.provider(v.r.Context(), form.Get("connector"))
	if err != nil {
		return err
	}
	return c.send(w, v, p, toConfirm, returnTo(form.Get("returnTo")))
}

// passkeyForm is what the script passkey.js asks the browser with.
type passkeyForm struct {
	Action, ReturnTo string
	Options, Sealed  string
}

// passkeyToSignIn returns the form of a passkey button that leads to action, or nil
// where passkeys are of no use: that is no reason to withhold the other buttons.
func (c *Console) passkeyToSignIn(v *visit, action, to string) (*passkeyForm, error) {
	if !c.config.Email.Settings().PasswordLogin {
		return nil, nil
	}
	options, sealed, err := c.config.Email.BeginPasskeySignIn(v.r.Context())
	switch errs.KindOf(err) {
	case errs.Unavailable, errs.Forbidden, errs.NotFound, errs.Exhausted:
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &passkeyForm{Action: action, ReturnTo: to, Options: string(options), Sealed: sealed}, nil
}

const passkeyRefused = "This passkey did not work here. Try again, or sign in another way."

func (c *Console) signInWithPasskey(w http.ResponseWriter, v *visit) error {
	form, err := v.form(w)
	if err != nil {
		return err
	}
	to := returnTo(form.Get("returnTo"))
	user, err := c.finishPasskey(v, form)
	if err == nil {
		return c.begin(w, v, user.ID, to)
	}
	status, problem := wrongPassword(w, err, passkeyRefused)
	if problem == "" {
		return err
	}
	return c.renderSignIn(w, v, status, signInPage{ReturnTo: to, Problem: problem})
}

func (c *Console) againWithPasskey(w http.ResponseWriter, v *visit) error {
	form, err := v.form(w)
	if err != nil {
		return err
	}
	to := returnTo(form.Get("returnTo"))
	user, err := c.finishPasskey(v, form)
	if err == nil && user.ID != v.who.UserID {
		err = errs.Errorf(errs.Unauthenticated, "this is somebody else's passkey")
	}
	if err == nil {
		return c.begin(w, v, user.ID, to)
	}
	status, problem := wrongPassword(w, err, passkeyRefused)
	if problem == "" {
		return err
	}
	return c.renderAgain(w, v, status, againPage{ReturnTo: to, Problem: problem})
}

// finishPasskey judges what the browser has signed. A passkey is asked for with the
// PIN or finger of its owner, and so is two factors in one.
func (c *Console) finishPasskey(v *visit, form url.Values) (identity.User, error) {
	return c.config.Email.FinishPasskeySignIn(v.r.Context(), form.Get("sealed"), []byte(form.Get("response")))
}
