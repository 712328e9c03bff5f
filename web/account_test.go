package web_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/ipuka/ipuka/identity"
)

func TestProfile(t *testing.T) {
	h, b := visitAlice(t)
	wants(t, b.get("/user/settings/profile"), http.StatusOK, `value="Alice Kealoha"`, "<code>alice</code>", "alice@example.com", "not confirmed", `aria-current="page">Profile`, "/user/settings/invites")
	wants(t, b.post("/user/settings/profile", url.Values{"name": {" "}}), http.StatusBadRequest, "Give a name.")
	wants(t, b.post("/user/settings/profile", url.Values{"name": {"Alice <b>"}}), http.StatusSeeOther)
	wants(t, b.get("/user/settings/profile?done=saved"), http.StatusOK, "Saved.", "Alice &lt;b&gt;")

	wants(t, b.get("/user/settings/login"), http.StatusOK, "keep leading to you", `value="alice"`)
	wants(t, b.post("/user/settings/login", url.Values{"login": {"signin"}}), http.StatusBadRequest, "reserved word")
	wants(t, b.post("/user/settings/login", url.Values{"login": {"acme"}}), http.StatusConflict, `role="alert"`)
	wants(t, b.post("/user/settings/login", url.Values{"login": {" alicia "}}), http.StatusSeeOther)
	if user, err := h.directory.UserByLogin(t.Context(), "alicia"); err != nil || user.Name != "Alice <b>" {
		t.Errorf("%+v, %v", user, err)
	}
	wants(t, b.get("/user/settings/profile?done=renamed"), http.StatusOK, "<code>alicia</code>", "Your login is changed.")
}

func TestDeleteAccount(t *testing.T) {
	h := newHouse(t, plainHTTP)
	h.settle(t)
	user, err := h.directory.CreateUser(t.Context(), identity.Principal{}, identity.NewUser{Login: "ben"})
	if err != nil {
		t.Fatal(err)
	}
	b := h.browser(t)
	wants(t, b.post("/signin", url.Values{"login": {"ben"}, "password": {password}}), http.StatusSeeOther)
	wants(t, b.get("/user/settings/delete"), http.StatusOK, "Type <code>ben</code> to confirm")
	for _, typed := range []string{"", "Ben", "alice"} {
		wants(t, b.post("/user/settings/delete", url.Values{"login": {typed}}), http.StatusBadRequest, "Nothing is deleted.")
	}
	if _, err := h.directory.User(t.Context(), user.ID); err != nil {
		t.Fatal(err)
	}
	res := b.post("/user/settings/delete", url.Values{"login": {"ben"}})
	if res.Header.Get("Location") != "/signin?done=deleted" || len(b.cookies) != 0 {
		t.Errorf("status %d to %q, cookies %v", res.StatusCode, res.Header.Get("Location"), b.cookies)
	}
	if sessions, err := h.directory.Sessions(t.Context(), user.ID); err != nil || len(sessions) != 0 {
		t.Errorf("sessions %v, %v", sessions, err)
	}
	// The last administrator stays.
	alice := h.signIn(t)
	wants(t, alice.post("/user/settings/delete", url.Values{"login": {"alice"}}), http.StatusConflict, `role="alert"`, "last")
	wants(t, alice.get("/acme"), http.StatusOK)
}

func TestMethods(t *testing.T) {
	h, b := visitAlice(t)
	wants(t, b.get("/user/settings/identities"), http.StatusOK, "E-mail and password", "alice@example.com", "Link GitHub", "Link Okta", "Switch on", "Add a passkey", "!Unlink")
	okta := h.connectors.site[1]
	wants(t, b.post("/user/settings/identities/link", url.Values{"connector": {"okta"}}), http.StatusOK)
	wants(t, b.get(callback(okta, okta.last(t).State, "alice-at-okta")), http.StatusSeeOther)
	wants(t, b.get("/user/settings/identities"), http.StatusOK, `value="id-of-alice-at-okta"`, "Unlink")
	wants(t, b.post("/user/settings/identities/unlink", url.Values{"connector": {"okta"}, "subject": {"id-of-somebody"}}), http.StatusNotFound)
	wants(t, b.post("/user/settings/identities/unlink", url.Values{"connector": {"okta"}, "subject": {"id-of-alice-at-okta"}}), http.StatusSeeOther)
	wants(t, b.post("/user/settings/identities/unlink", url.Values{"connector": {"email"}, "subject": {"alice@example.com"}}), http.StatusConflict, "last way to sign in")
	wants(t, b.get("/user/settings/identities"), http.StatusOK, "!id-of-alice-at-okta")
	wants(t, b.post("/user/settings/identities/link", url.Values{"connector": {"none"}}), http.StatusNotFound)
}

func TestChangePassword(t *testing.T) {
	h, b := visitAlice(t)
	other := h.signIn(t)
	wants(t, b.get("/user/settings/password"), http.StatusOK, "Change your password", `name="old"`)
	form := func(old, chosen, again string) url.Values {
		return url.Values{"old": {old}, "password": {chosen}, "again": {again}}
	}
	wants(t, b.post("/user/settings/password", form(password, "another good one", "x")), http.StatusBadRequest, "not the same")
	wants(t, b.post("/user/settings/password", form(password, "short", "short")), http.StatusBadRequest, "too short")
	wants(t, b.post("/user/settings/password", form("wrong", "another good one", "another good one")), http.StatusUnauthorized, "The old password is not right.", "!another good one")
	user, err := h.directory.UserByLogin(t.Context(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	half := h.halfIn(t, user, "/")
	old := b.cookies["ipuka"]
	res := b.post("/user/settings/password", form(password, "another good one", "another good one"))
	if res.Header.Get("Location") != "/user/settings/identities?done=password" || b.cookies["ipuka"] == old {
		t.Errorf("status %d to %q", res.StatusCode, res.Header.Get("Location"))
	}
	wants(t, b.get("/user/settings/identities?done=password"), http.StatusOK, "signed out everywhere else")
	if sessions := h.sessionsOf(t, "alice"); len(sessions) != 1 {
		t.Errorf("%d sessions", len(sessions))
	}
	wants(t, other.get("/acme"), http.StatusSeeOther)
	half.post("/signin/second-factor", url.Values{"code": {goodTOTP}})
	if half.cookies["ipuka"] != "" {
		t.Error("the second factor goes on after the old password")
	}
}

func TestTOTP(t *testing.T) {
	h, b := visitAlice(t)
	page := wants(t, b.get("/user/settings/totp"), http.StatusOK, "JBSW Y3DP", `src="data:image/png;base64,`, `value="sealed-totp"`)
	if strings.Contains(page, "ZgotmplZ") {
		t.Error("the picture is not shown")
	}
	wants(t, b.post("/user/settings/totp", url.Values{"sealed": {"sealed-totp"}, "code": {"111111"}}), http.StatusBadRequest, "The code did not fit.")
	res := b.post("/user/settings/totp", url.Values{"sealed": {"sealed-totp"}, "code": {goodTOTP}})
	wants(t, res, http.StatusOK, "shown this once", "k7wq-9d3x-h2mf-1009", `data-copy="codes"`)
	if res.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("headers %v", res.Header)
	}
	wants(t, b.get("/user/settings/identities"), http.StatusOK, "10 left", "Switch off", "!k7wq")
	wants(t, b.post("/user/settings/recovery-codes", url.Values{}), http.StatusOK, "k7wq-9d3x-h2mf-1000")
	wants(t, b.post("/user/settings/totp/remove", url.Values{}), http.StatusSeeOther)
	wants(t, b.get("/user/settings/identities?done=totp-off"), http.StatusOK, "The second factor is off.", "Switch on")
	if strings.Contains(h.log.String(), "k7wq") {
		t.Error("a recovery code is in the log")
	}
}

func TestPasskeys(t *testing.T) {
	h, b := visitAlice(t)
	wants(t, b.get("/user/settings/passkey"), http.StatusOK, `data-passkey="create"`, `value="sealed-creation"`)
	wants(t, b.post("/user/settings/passkey", url.Values{"sealed": {"other"}, "name": {"x"}, "response": {"{}"}}), http.StatusBadRequest, "The passkey was not added.", "!detail about")
	wants(t, b.post("/user/settings/passkey", url.Values{"sealed": {"sealed-creation"}, "name": {" lap\x1btop "}, "response": {"{}"}}), http.StatusSeeOther)
	if !slices.Contains(h.email.calls, "passkey laptop of alice") {
		t.Errorf("calls %q", h.email.calls)
	}
	wants(t, b.get("/user/settings/identities"), http.StatusOK, "Chrome on Linux", `value="key-0"`)
	wants(t, b.post("/user/settings/passkey/remove", url.Values{"id": {"key-0"}}), http.StatusSeeOther)
	if !slices.Contains(h.email.calls, "removed passkey key-0 of alice") {
		t.Errorf("calls %q", h.email.calls)
	}
}

// Whose account belongs to an organization sees why, and can change none of it.
func TestManagedAccount(t *testing.T) {
	h := newHouse(t, overTLS)
	h.settle(t)
	saml := h.singleSignOn(t, "acme")
	h.backed(t, "acme")
	b := h.browser(t)
	b.get("/signin/sso/acme")
	wants(t, b.posts(acs, url.Values{"RelayState": {saml.last(t).State}, "who": {"ben"}}), http.StatusSeeOther)
	wants(t, b.get("/user/settings/identities"), http.StatusOK, "Your account belongs to <strong>acme</strong>", "Single sign-on of acme", "!Link GitHub", "!Add a passkey", "!Unlink", "!/user/settings/password")
	wants(t, b.get("/user/settings/profile"), http.StatusOK, "Your account belongs to <strong>acme</strong>", "!/user/settings/login", "!/user/settings/delete")
	for _, path := range []string{"/user/settings/login", "/user/settings/email", "/user/settings/delete", "/user/settings/password", "/user/settings/totp", "/user/settings/passkey"} {
		wants(t, b.get(path), http.StatusForbidden, "Your account belongs to acme")
		wants(t, b.post(path, url.Values{"login": {"ben"}}), http.StatusForbidden)
	}
	for _, path := range []string{"/user/settings/identities/link", "/user/settings/identities/unlink", "/user/settings/totp/remove", "/user/settings/recovery-codes", "/user/settings/passkey/remove"} {
		wants(t, b.post(path, url.Values{"connector": {"github"}}), http.StatusForbidden, "Your account belongs to acme")
	}
	alice, err := h.directory.UserByLogin(t.Context(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	other, err := h.directory.CreateOrganization(t.Context(), alice.Principal("email"), "other", "")
	if err != nil {
		t.Fatal(err)
	}
	_, link, err := h.directory.CreateInvite(t.Context(), alice.Principal("email"), other.ID, "", identity.RoleMember)
	if err != nil {
		t.Fatal(err)
	}
	wants(t, b.get("/invite?code="+link), http.StatusOK, "Such an account is in no other one", "!Join as")
	wants(t, b.post("/invite", url.Values{"code": {link}}), http.StatusForbidden, "You cannot accept this invite")
	if len(h.email.calls) != 0 {
		t.Errorf("calls %q", h.email.calls)
	}
}
