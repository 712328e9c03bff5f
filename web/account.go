package web

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
)

// accountRoutes are the pages of a person's own account.
func accountRoutes() []route {
	return []route{
		{"GET", "/user/settings", signedIn, redirect("/user/settings/profile")},
		{"GET", "/user/settings/profile", signedIn, (*Console).profile},
		{"POST", "/user/settings/profile", signedIn, (*Console).changeProfile},
		{"GET", "/user/settings/login", signedIn, (*Console).renameForm},
		{"POST", "/user/settings/login", signedIn, (*Console).rename},
		{"GET", "/user/settings/email", signedIn, (*Console).emailForm},
		{"POST", "/user/settings/email", signedIn, (*Console).changeEmail},
		{"GET", "/user/settings/delete", signedIn, (*Console).deleteForm},
		{"POST", "/user/settings/delete", signedIn, (*Console).deleteAccount},

		{"GET", "/user/settings/identities", signedIn, (*Console).methods},
		{"POST", "/user/settings/identities/link", signedIn, (*Console).startLink},
		{"POST", "/user/settings/identities/unlink", signedIn, (*Console).unlink},
		{"GET", "/user/settings/password", signedIn, (*Console).passwordForm},
		{"POST", "/user/settings/password", signedIn, (*Console).changePassword},
		{"GET", "/user/settings/totp", signedIn, (*Console).totpForm},
		{"POST", "/user/settings/totp", signedIn, (*Console).confirmTOTP},
		{"POST", "/user/settings/totp/remove", signedIn, (*Console).removeTOTP},
		{"POST", "/user/settings/recovery-codes", signedIn, (*Console).newRecoveryCodes},
		{"GET", "/user/settings/passkey", signedIn, (*Console).passkeyForm},
		{"POST", "/user/settings/passkey", signedIn, (*Console).addPasskey},
		{"POST", "/user/settings/passkey/remove", signedIn, (*Console).removePasskey},

		{"GET", "/user/settings/tokens", signedIn, (*Console).tokens},
		{"POST", "/user/settings/tokens", signedIn, (*Console).createToken},
		{"GET", "/user/settings/tokens/revoke/{id}", signedIn, (*Console).revokeForm},
		{"POST", "/user/settings/tokens/revoke/{id}", signedIn, (*Console).revokeToken},
		{"GET", "/account/tokens", signedIn, redirect("/user/settings/tokens")},
		{"GET", "/user/settings/sessions", signedIn, (*Console).sessions},
		{"POST", "/user/settings/sessions", signedIn, (*Console).endSession},
		{"GET", "/user/settings/invites", signedIn, (*Console).invites},
	}
}

func settingsTabs(current string) []tab {
	return []tab{
		{"Profile", "/user/settings/profile", current == "profile"},
		{"Sign-in methods", "/user/settings/identities", current == "identities"},
		{"Access tokens", "/user/settings/tokens", current == "tokens"},
		{"Sessions", "/user/settings/sessions", current == "sessions"},
		{"Invites", "/user/settings/invites", current == "invites"},
	}
}

// done are what somebody has just done, by the query of the page that it leads to.
var done = map[string]string{
	"saved":     "Saved.",
	"renamed":   "Your login is changed. The old one still leads to you.",
	"mailed":    "A link is on its way to the new address. It is used from the moment that you open the link there and confirm.",
	"confirmed": "The address is confirmed.",
	"linked":    "The account is linked. You can sign in with it from now on.",
	"unlinked":  "The account is no longer linked. Sessions that began with it have ended.",
	"password":  "The password is changed. You are signed out everywhere else.",
	"totp-off":  "The second factor is off.",
	"passkey":   "The passkey is added.",
	"removed":   "The passkey is removed.",
}

func (v *visit) done() string { return done[v.r.URL.Query().Get("done")] }

type profilePage struct {
	Login, Name, Email string
	Verified           bool
	Created            time.Time
	Managed            string // login of the organization that owns the account
	Done, Problem      string
}

// profile shows the visitor's account.
func (c *Console) profile(w http.ResponseWriter, v *visit) error {
	return c.renderProfile(w, v, http.StatusOK, profilePage{Done: v.done()})
}

func (c *Console) renderProfile(w http.ResponseWriter, v *visit, status int, p profilePage) error {
	user, managed, err := c.account(v)
	if err != nil {
		return err
	}
	p.Login, p.Email, p.Verified, p.Created, p.Managed = user.Login, user.Email, user.EmailVerified, user.Created, managed
	if p.Problem == "" {
		p.Name = user.Name
	}
	return c.render(w, v, status, "account-profile", page{Title: "Profile", Tabs: settingsTabs("profile"), Body: p})
}

// account returns the visitor as the directory has them now, with the organization
// that owns the account, if any.
func (c *Console) account(v *visit) (user identity.User, managed string, err error) {
	ctx := v.r.Context()
	if user, err = c.config.Directory.User(ctx, v.who.UserID); err != nil || user.ManagedBy == "" {
		return user, "", err
	}
	organization, err := c.config.Directory.OrganizationByID(ctx, user.ManagedBy)
	if errors.Is(err, errs.NotFound) {
		organization.Login, err = "an organization", nil // that has been deleted
	}
	return user, organization.Login, err
}

// own refuses what people whose account belongs to an organization may not do.
func (c *Console) own(v *visit) error {
	_, managed, err := c.account(v)
	if err != nil || managed == "" {
		return err
	}
	return errs.Errorf(errs.Forbidden, "your account belongs to %s: its identity provider decides about that", managed)
}

func (c *Console) changeProfile(w http.ResponseWriter, v *visit) error {
	form, err := v.form(w)
	if err != nil {
		return err
	}
	name := strings.TrimSpace(form.Get("name"))
	if name == "" {
		return c.renderProfile(w, v, http.StatusBadRequest, profilePage{Problem: "Give a name."})
	}
	err = c.config.Directory.UpdateProfile(v.r.Context(), v.who, v.who.UserID, identity.Profile{Name: &name})
	if badInput(err) {
		return c.renderProfile(w, v, httpapi.Status(err), profilePage{Name: name, Problem: sentence(errs.Public(err))})
	} else if err != nil {
		return err
	}
	http.Redirect(w, v.r, "/user/settings/profile?done=saved", http.StatusSeeOther)
	return nil
}

// changePage asks for the new value of something.
type changePage struct {
	Old, New, Problem string
	Verified          bool
}

// sensitive does what the forms for sensitive changes have in common: the account is
// the visitor's own, and they have just signed in.
func (c *Console) sensitive(w http.ResponseWriter, v *visit, to string) (bool, error) {
	if err := c.own(v); err != nil {
		return false, err
	}
	return c.fresh(w, v, to)
}

func (c *Console) renameForm(w http.ResponseWriter, v *visit) error {
	if ok, err := c.sensitive(w, v, "/user/settings/login"); !ok {
		return err
	}
	return c.renderRename(w, v, http.StatusOK, changePage{New: v.who.Login})
}

func (c *Console) renderRename(w http.ResponseWriter, v *visit, status int, p changePage) error {
	p.Old = v.who.Login
	return c.render(w, v, status, "account-login", page{Title: "Change your login", Narrow: true, Body: p})
}

func (c *Console) rename(w http.ResponseWriter, v *visit) error {
	form, err := v.form(w)
	if err != nil {
		return err
	}
	if ok, err := c.sensitive(w, v, "/user/settings/login"); !ok {
		return err
	}
	p := changePage{New: strings.TrimSpace(form.Get("login"))}
	err = c.config.Directory.RenameUser(v.r.Context(), v.who, v.who.UserID, p.New)
	if badInput(err) {
		p.Problem = sentence(errs.Public(err))
		return c.renderRename(w, v, httpapi.Status(err), p)
	} else if err != nil {
		return err
	}
	http.Redirect(w, v.r, "/user/settings/profile?done=renamed", http.StatusSeeOther)
	return nil
}

func (c *Console) emailForm(w http.ResponseWriter, v *visit) error {
	if ok, err := c.sensitive(w, v, "/user/settings/email"); !ok {
		return err
	}
	return c.renderEmail(w, v, http.StatusOK, changePage{})
}

func (c *Console) renderEmail(w http.ResponseWriter, v *visit, status int, p changePage) error {
	user, err := c.config.Directory.User(v.r.Context(), v.who.UserID)
	if err != nil {
		return err
	}
	p.Old, p.Verified = user.Email, user.EmailVerified
	return c.render(w, v, status, "account-email", page{Title: "Change your e-mail address", Narrow: true, Body: p})
}

func (c *Console) changeEmail(w http.ResponseWriter, v *visit) error {
	form, err := v.form(w)
	if err != nil {
		return err
	}
	if ok, err := c.sensitive(w, v, "/user/settings/email"); !ok {
		return err
	}
	p := changePage{New: strings.TrimSpace(form.Get("email"))}
	err = c.config.Email.ChangeEmail(v.r.Context(), v.who, p.New)
	if badInput(err) {
		p.Problem = sentence(errs.Public(err))
		return c.renderEmail(w, v, httpapi.Status(err), p)
	} else if err != nil {
		return err
	}
	http.Redirect(w, v.r, "/user/settings/profile?done=mailed", http.StatusSeeOther)
	return nil
}

func (c *Console) deleteForm(w http.ResponseWriter, v *visit) error {
	if ok, err := c.sensitive(w, v, "/user/settings/delete"); !ok {
		return err
	}
	return c.renderDelete(w, v, http.StatusOK, changePage{})
}

func (c *Console) renderDelete(w http.ResponseWriter, v *visit, status int, p changePage) error {
	p.Old = v.who.Login
	return c.render(w, v, status, "account-delete", page{Title: "Delete your account", Narrow: true, Body: p})
}

func (c *Console) deleteAccount(w http.ResponseWriter, v *visit) error {
	form, err := v.form(w)
	if err != nil {
		return err
	}
	if ok, err := c.sensitive(w, v, "/user/settings/delete"); !ok {
		return err
	}
	if strings.TrimSpace(form.Get("login")) != v.who.Login {
		return c.renderDelete(w, v, http.StatusBadRequest, changePage{Problem: "That is not your login. Nothing is deleted."})
	}
	err = c.config.Directory.DeleteUser(v.r.Context(), v.who, v.who.UserID)
	if badInput(err) {
		return c.renderDelete(w, v, httpapi.Status(err), changePage{Problem: sentence(errs.Public(err))})
	} else if err != nil {
		return err
	}
	c.dropCookie(w, "")
	http.Redirect(w, v.r, "/signin?done=deleted", http.StatusSeeOther)
	return nil
}

type invitesPage struct {
	Invites []inviteRow
	Email   string
	// Verified: only invites to a verified address are listed.
	Verified bool
}

type inviteRow struct {
	ID               string
	Organization     string
	Role, By         string
	Created, Expires time.Time
}

// invites lists the invites to the visitor's address.
func (c *Console) invites(w http.ResponseWriter, v *visit) error {
	user, err := c.config.Directory.User(v.r.Context(), v.who.UserID)
	if err != nil {
		return err
	}
	all, err := c.config.Directory.InvitesTo(v.r.Context(), v.who.UserID)
	if err != nil {
		return err
	}
	p := invitesPage{Email: user.Email, Verified: user.EmailVerified}
	for _, i := range all {
		facts := inviteFacts(i)
		p.Invites = append(p.Invites, inviteRow{i.ID, facts.Organization, facts.Role, facts.By, i.Created, i.Expires})
	}
	return c.render(w, v, http.StatusOK, "account-invites", page{Title: "Invites", Tabs: settingsTabs("invites"), Body: p})
}
