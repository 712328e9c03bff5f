package web

import (
	"context"
	"encoding/base64"
	"errors"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/identity/email"
	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
)

const methodsPath = "/user/settings/identities"

type methodsPage struct {
	Identities    []identityRow
	Links         []wayIn // what can be linked
	Factors       email.Factors
	PasswordLogin bool // passwords are of use here
	Passkeys      []email.Passkey
	Managed       string
	Done, Problem string
}

type identityRow struct {
	Connector, Subject     string
	Title                  string
	Kind                   identity.ConnectorKind
	Login, Email           string
	Created, Used, Refused time.Time
}

// methods shows how the visitor can sign in.
func (c *Console) methods(w http.ResponseWriter, v *visit) error {
	return c.renderMethods(w, v, http.StatusOK, methodsPage{Done: v.done()})
}

func (c *Console) renderMethods(w http.ResponseWriter, v *visit, status int, p methodsPage) error {
	ctx := v.r.Context()
	_, managed, err := c.account(v)
	if err != nil {
		return err
	}
	p.Managed, p.PasswordLogin = managed, c.config.Email.Settings().PasswordLogin
	linked, err := c.config.Directory.LinkedIdentities(ctx, v.who.UserID)
	if err != nil {
		return err
	}
	for _, i := range linked {
		info, err := c.infoOf(ctx, i.Connector)
		if err != nil {
			return err
		}
		p.Identities = append(p.Identities, identityRow{i.Connector, i.Subject, info.Title, info.Kind, i.Login, i.Email, i.Created, i.Used, i.Withdrawn})
	}
	if managed == "" {
		if p.Links, err = c.linkable(v, linked); err != nil {
			return err
		}
		if p.Factors, err = c.config.Email.Factors(ctx, v.who.UserID); err != nil {
			return err
		}
		if p.Passkeys, err = c.config.Email.Passkeys(ctx, v.who.UserID); err != nil {
			return err
		}
	}
	return c.render(w, v, status, "account-methods", page{Title: "Sign-in methods", Tabs: settingsTabs("identities"), Body: p})
}

// infoOf describes a connector, also one that is not configured any more.
func (c *Console) infoOf(ctx context.Context, name string) (identity.ConnectorInfo, error) {
	if name == identity.EmailConnector {
		return identity.ConnectorInfo{Name: name, Kind: identity.KindEmail, Title: "E-mail and password"}, nil
	}
	p, err := c.provider(ctx, name)
	switch {
	case errors.Is(err, errs.NotFound):
		if strings.HasPrefix(name, identity.SAMLConnector("")) {
			return identity.ConnectorInfo{Name: name, Kind: identity.KindSAML, Title: "Single sign-on"}, nil
		}
		return identity.ConnectorInfo{Name: name, Title: name}, nil
	case err != nil:
		return identity.ConnectorInfo{}, err
	case p.info.OrganizationID != "":
		p.info.Title = "Single sign-on of " + p.organization.Login
	}
	return p.info, nil
}

// linkable are the connectors of the installation, and of the visitor's organizations,
// at which the visitor has no identity yet.
func (c *Console) linkable(v *visit, linked []identity.LinkedIdentity) ([]wayIn, error) {
	has := func(name string) bool {
		return slices.ContainsFunc(linked, func(i identity.LinkedIdentity) bool { return i.Connector == name })
	}
	var all []wayIn
	for _, connector := range c.config.Connectors.Site() {
		if info := connector.Info(); !has(info.Name) {
			all = append(all, wayIn{Name: info.Name, Title: info.Title, Kind: info.Kind})
		}
	}
	memberships, err := c.config.Directory.Organizations(v.r.Context(), v.who.UserID)
	if err != nil {
		return nil, err
	}
	for _, m := range memberships {
		name := identity.SAMLConnector(m.Organization.ID)
		if has(name) {
			continue
		}
		if _, err := c.config.Connectors.Find(v.r.Context(), name); err == nil {
			all = append(all, wayIn{Name: name, Title: "single sign-on of " + m.Organization.Login, Kind: identity.KindSAML})
		} else if !errors.Is(err, errs.NotFound) {
			return nil, err
		}
	}
	return all, nil
}

// startLink sends the visitor to a provider, to come back with an identity there.
func (c *Console) startLink(w http.ResponseWriter, v *visit) error {
	form, err := v.form(w)
	if err != nil {
		return err
	}
	if ok, err := c.sensitive(w, v, methodsPath); !ok {
		return err
	}
	p, err := c.provider(v.r.Context(), form.Get("connector"))
	if err != nil {
		return err
	}
	to := methodsPath + "?done=linked"
	if form.Has("returnTo") {
		to = returnTo(form.Get("returnTo"))
	}
	return c.send(w, v, p, toLink, to)
}

// link ends that way.
func (c *Console) link(w http.ResponseWriter, v *visit, p provider, f flow, x identity.External) error {
	err := c.config.Directory.Link(v.r.Context(), v.who, p.info, f.Flow, x)
	page := failure{Heading: "Nothing was linked", Path: methodsPath, PathText: "Back to sign-in methods", RequestID: httpapi.RequestID(v.r.Context())}
	switch {
	case err == nil:
		http.Redirect(w, v.r, f.ReturnTo, http.StatusSeeOther)
		return nil
	case errors.Is(err, identity.ErrStepUp):
		http.Redirect(w, v.r, withReturn("/signin/again", methodsPath), http.StatusSeeOther)
		return nil
	case errors.Is(err, errs.Conflict):
		page.Status = http.StatusConflict
		page.Message = "Somebody else signs in here with this account at " + p.info.Title + ". If that is you, sign in with it, and delete that account or unlink it there first."
	case errors.Is(err, errs.Forbidden):
		page.Status, page.Message = http.StatusForbidden, sentence(errs.Public(err))
	default:
		return c.failSignIn(w, v, p, f, err) // Link has put it on record
	}
	return c.renderFailure(w, v, page)
}

func (c *Console) unlink(w http.ResponseWriter, v *visit) error {
	form, err := v.form(w)
	if err != nil {
		return err
	}
	if ok, err := c.sensitive(w, v, methodsPath); !ok {
		return err
	}
	err = c.config.Directory.Unlink(v.r.Context(), v.who, identity.Identity{Connector: form.Get("connector"), Subject: form.Get("subject")})
	return c.afterChange(w, v, err, methodsPath+"?done=unlinked")
}

// afterChange leads to a page after a change of the ways to sign in, or says on the
// page of these what was wrong with it.
func (c *Console) afterChange(w http.ResponseWriter, v *visit, err error, to string) error {
	if badInput(err) {
		return c.renderMethods(w, v, httpapi.Status(err), methodsPage{Problem: sentence(errs.Public(err))})
	} else if err != nil {
		return err
	}
	http.Redirect(w, v.r, to, http.StatusSeeOther)
	return nil
}

type passwordPage struct {
	Set     bool // there is one already
	Login   string
	Problem string
}

func (c *Console) passwordForm(w http.ResponseWriter, v *visit) error {
	if ok, err := c.sensitive(w, v, "/user/settings/password"); !ok {
		return err
	}
	return c.renderPassword(w, v, http.StatusOK, "")
}

func (c *Console) renderPassword(w http.ResponseWriter, v *visit, status int, problem string) error {
	factors, err := c.config.Email.Factors(v.r.Context(), v.who.UserID)
	if err != nil {
		return err
	}
	title := "Set a password"
	if factors.Password {
		title = "Change your password"
	}
	return c.render(w, v, status, "account-password", page{Title: title, Narrow: true, Body: passwordPage{factors.Password, v.who.Login, problem}})
}

func (c *Console) changePassword(w http.ResponseWriter, v *visit) error {
	form, err := v.form(w)
	if err != nil {
		return err
	}
	if ok, err := c.sensitive(w, v, "/user/settings/password"); !ok {
		return err
	}
	if form.Get("password") != form.Get("again") {
		return c.renderPassword(w, v, http.StatusBadRequest, "The two passwords are not the same.")
	}
	err = c.config.Email.ChangePassword(v.r.Context(), v.who, form.Get("old"), form.Get("password"))
	switch {
	case err == nil:
		// Sign-ins that are half done with the old password end, too.
		if err := c.config.Directory.EndSessions(v.r.Context(), v.who, v.who.UserID); err != nil {
			return err
		}
		return c.begin(w, v, v.who.UserID, methodsPath+"?done=password")
	case badInput(err):
		return c.renderPassword(w, v, http.StatusBadRequest, sentence(errs.Public(err)))
	case errors.Is(err, errs.Unauthenticated):
		return c.renderPassword(w, v, http.StatusUnauthorized, "The old password is not right.")
	case errors.Is(err, errs.Exhausted):
		return c.renderPassword(w, v, http.StatusTooManyRequests, sentence(errs.Public(err)))
	}
	return err
}

type totpPage struct {
	Secret, Sealed string
	Picture        template.URL
	Problem        string
}

func (c *Console) totpForm(w http.ResponseWriter, v *visit) error {
	if ok, err := c.sensitive(w, v, "/user/settings/totp"); !ok {
		return err
	}
	return c.renderTOTP(w, v, http.StatusOK, "")
}

// renderTOTP shows a secret that nobody has seen before. It is kept nowhere until a
// code has proved that the app has it.
func (c *Console) renderTOTP(w http.ResponseWriter, v *visit, status int, problem string) error {
	enrolment, err := c.config.Email.BeginTOTP(v.r.Context(), v.who)
	if badInput(err) {
		return c.renderMethods(w, v, httpapi.Status(err), methodsPage{Problem: sentence(errs.Public(err))})
	} else if err != nil {
		return err
	}
	p := totpPage{Secret: spaced(enrolment.Secret), Sealed: enrolment.Sealed, Problem: problem}
	//nolint:gosec // a picture that package email has drawn, in base64
	p.Picture = template.URL("data:image/png;base64," + base64.StdEncoding.EncodeToString(enrolment.PNG))
	return c.render(w, v, status, "account-totp", page{Title: "Second factor", Narrow: true, Body: p})
}

// spaced groups a secret's letters by four, for typing.
func spaced(secret string) string {
	var groups []string
	for group := range slices.Chunk([]byte(secret), 4) {
		groups = append(groups, string(group))
	}
	return strings.Join(groups, " ")
}

func (c *Console) confirmTOTP(w http.ResponseWriter, v *visit) error {
	form, err := v.form(w)
	if err != nil {
		return err
	}
	if ok, err := c.sensitive(w, v, "/user/settings/totp"); !ok {
		return err
	}
	codes, err := c.config.Email.ConfirmTOTP(v.r.Context(), v.who, form.Get("sealed"), form.Get("code"))
	switch {
	case err == nil:
		return c.renderCodes(w, v, codes)
	case badInput(err), errors.Is(err, errs.Unauthenticated):
		return c.renderTOTP(w, v, http.StatusBadRequest, "The code did not fit. This is a new key: delete the one that you have just added to the app, and add this one.")
	case errors.Is(err, errs.Exhausted):
		return c.renderTOTP(w, v, http.StatusTooManyRequests, sentence(errs.Public(err)))
	}
	return err
}

// renderCodes shows recovery codes, once.
func (c *Console) renderCodes(w http.ResponseWriter, v *visit, codes []string) error {
	return c.render(w, v, http.StatusOK, "account-codes", page{Title: "Recovery codes", Narrow: true, Body: codes})
}

func (c *Console) removeTOTP(w http.ResponseWriter, v *visit) error {
	if _, err := v.form(w); err != nil {
		return err
	}
	if ok, err := c.sensitive(w, v, methodsPath); !ok {
		return err
	}
	return c.afterChange(w, v, c.config.Email.RemoveTOTP(v.r.Context(), v.who), methodsPath+"?done=totp-off")
}

func (c *Console) newRecoveryCodes(w http.ResponseWriter, v *visit) error {
	if _, err := v.form(w); err != nil {
		return err
	}
	if ok, err := c.sensitive(w, v, methodsPath); !ok {
		return err
	}
	codes, err := c.config.Email.NewRecoveryCodes(v.r.Context(), v.who)
	if err != nil {
		return c.afterChange(w, v, err, methodsPath)
	}
	return c.renderCodes(w, v, codes)
}

type newPasskeyPage struct {
	Options, Sealed string
	Name, Problem   string
}

func (c *Console) passkeyForm(w http.ResponseWriter, v *visit) error {
	if ok, err := c.sensitive(w, v, "/user/settings/passkey"); !ok {
		return err
	}
	return c.renderPasskey(w, v, http.StatusOK, newPasskeyPage{Name: browser(v.r.UserAgent())})
}

func (c *Console) renderPasskey(w http.ResponseWriter, v *visit, status int, p newPasskeyPage) error {
	options, sealed, err := c.config.Email.BeginPasskey(v.r.Context(), v.who)
	if badInput(err) {
		return c.renderMethods(w, v, httpapi.Status(err), methodsPage{Problem: sentence(errs.Public(err))})
	} else if err != nil {
		return err
	}
	p.Options, p.Sealed = string(options), sealed
	return c.render(w, v, status, "account-passkey", page{Title: "Add a passkey", Narrow: true, Script: "passkey.js", Body: p})
}

func (c *Console) addPasskey(w http.ResponseWriter, v *visit) error {
	form, err := v.form(w)
	if err != nil {
		return err
	}
	if ok, err := c.sensitive(w, v, "/user/settings/passkey"); !ok {
		return err
	}
	name := strings.TrimSpace(httpapi.Clean(form.Get("name"), 100))
	err = c.config.Email.FinishPasskey(v.r.Context(), v.who, form.Get("sealed"), name, []byte(form.Get("response")))
	if badInput(err) || errors.Is(err, errs.Unauthenticated) && err != nil {
		return c.renderPasskey(w, v, http.StatusBadRequest, newPasskeyPage{Name: name, Problem: "The passkey was not added. Try again."})
	} else if err != nil {
		return err
	}
	http.Redirect(w, v.r, methodsPath+"?done=passkey", http.StatusSeeOther)
	return nil
}

func (c *Console) removePasskey(w http.ResponseWriter, v *visit) error {
	form, err := v.form(w)
	if err != nil {
		return err
	}
	if ok, err := c.sensitive(w, v, methodsPath); !ok {
		return err
	}
	return c.afterChange(w, v, c.config.Email.RemovePasskey(v.r.Context(), v.who, form.Get("id")), methodsPath+"?done=removed")
}
