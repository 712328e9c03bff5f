package web_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/identity/email"
	"github.com/ipuka/ipuka/web"
)

// halfIn returns a browser in which alice has given her password and no second factor.
func (h *house) halfIn(t testing.TB, user identity.User, to string) *browser {
	t.Helper()
	h.mfa(user)
	b := h.browser(t)
	res := b.post("/signin", url.Values{"login": {"alice"}, "password": {password}, "returnTo": {to}})
	if res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != "/signin/second-factor" || len(b.cookies) != 1 {
		t.Fatalf("status %d to %q, cookies %v", res.StatusCode, res.Header.Get("Location"), b.cookies)
	}
	return b
}

func TestSecondFactor(t *testing.T) {
	h := newHouse(t, plainHTTP)
	user := h.settle(t)
	b := h.halfIn(t, user, "/acme/website")
	if sessions := h.sessionsOf(t, "alice"); len(sessions) != 0 {
		t.Fatalf("there is a session before the second factor: %v", sessions)
	}
	wants(t, b.get("/signin/second-factor"), http.StatusOK, "Second factor", "one-time-code", "!Sign out")
	wants(t, b.post("/signin/second-factor", url.Values{"code": {"111111"}}), http.StatusUnauthorized, "This code is not right", "!111111")
	res := b.post("/signin/second-factor", url.Values{"code": {"000000"}})
	if wants(t, res, http.StatusTooManyRequests, "Too many wrong codes"); res.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	kept := b.cookies["ipuka-half"]
	res = b.post("/signin/second-factor", url.Values{"code": {goodTOTP}})
	if res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != "/acme/website" || b.cookies["ipuka"] == "" || b.cookies["ipuka-half"] != "" {
		t.Fatalf("status %d to %q, cookies %v", res.StatusCode, res.Header.Get("Location"), b.cookies)
	}
	wants(t, b.get("/acme"), http.StatusOK)

	again := h.browser(t)
	again.cookies["ipuka-half"] = kept
	wants(t, again.post("/signin/second-factor", url.Values{"code": {goodTOTP}}), http.StatusSeeOther)
	if again.cookies["ipuka"] != "" {
		t.Error("one password is good for two sign-ins")
	}

	b = h.halfIn(t, user, "/acme")
	wants(t, b.get("/signin/second-factor?recovery"), http.StatusOK, "Recovery code", `name="recovery"`)
	wants(t, b.post("/signin/second-factor", url.Values{"recovery": {"bad"}}), http.StatusUnauthorized, "none of the recovery codes", `name="recovery"`)
	wants(t, b.post("/signin/second-factor", url.Values{"recovery": {" good-recovery "}}), http.StatusSeeOther)
	wants(t, b.get("/acme"), http.StatusOK)
}

// Half a sign-in opens no page (PWD-18).
func TestHalfSignedInIsSignedOut(t *testing.T) {
	h := newHouse(t, plainHTTP)
	user := h.settle(t)
	stranger, b := h.browser(t), h.halfIn(t, user, "/")
	half := b.cookies["ipuka-half"]
	for _, r := range web.Routes() {
		path := fill.Replace(r.Pattern)
		var form url.Values
		if r.Method == http.MethodPost {
			form = url.Values{"x": {"y"}}
		}
		if strings.HasPrefix(path, "/signin/second-factor") {
			continue
		}
		stranger.cookies = map[string]string{}
		b.cookies = map[string]string{"ipuka-half": half}
		want, got := stranger.do(r.Method, path, form, nil), b.do(r.Method, path, form, nil)
		if got.StatusCode != want.StatusCode || !r.Public && got.Header.Get("Location") != want.Header.Get("Location") || b.cookies["ipuka"] != "" {
			t.Errorf("%s %s: status %d to %q, a stranger gets %d to %q", r.Method, path, got.StatusCode, got.Header.Get("Location"), want.StatusCode, want.Header.Get("Location"))
		}
		if strings.Contains(text(t, got), "Sign out") {
			t.Errorf("%s %s takes it for signed in", r.Method, path)
		}
		// Nor is it a session by another name.
		b.cookies = map[string]string{"ipuka": half}
		if got := b.do(r.Method, path, form, nil); !r.Public && got.Header.Get("Location") != want.Header.Get("Location") {
			t.Errorf("%s %s: as a session it leads to %q", r.Method, path, got.Header.Get("Location"))
		}
	}
	if calls := h.gate.seen(); len(calls) != 0 {
		t.Errorf("the API was called: %v", calls)
	}
}

func TestHalfIsBound(t *testing.T) {
	h := newHouse(t, plainHTTP)
	user := h.settle(t)
	for name, spoil := range map[string]func(b *browser){
		"too late":        func(*browser) { h.later(10 * time.Minute) },
		"none":            func(b *browser) { delete(b.cookies, "ipuka-half") },
		"changed":         func(b *browser) { b.cookies["ipuka-half"] = b.cookies["ipuka-half"][1:] },
		"a flow's cookie": func(b *browser) { b.cookies["ipuka-half"] = h.flowCookie(b.t) },
		"a new password": func(b *browser) {
			if err := h.directory.EndSessions(b.t.Context(), user.Principal("email"), user.ID); err != nil {
				b.t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := h.halfIn(t, user, "/")
			spoil(b)
			h.email.calls = nil
			for _, res := range []*http.Response{b.get("/signin/second-factor"), b.post("/signin/second-factor", url.Values{"code": {goodTOTP}})} {
				if res.StatusCode != http.StatusSeeOther || !strings.HasPrefix(res.Header.Get("Location"), "/signin") || strings.Contains(res.Header.Get("Location"), "factor") {
					t.Errorf("status %d to %q", res.StatusCode, res.Header.Get("Location"))
				}
			}
			if b.cookies["ipuka"] != "" || len(h.email.calls) != 0 {
				t.Errorf("cookies %v, calls %v", b.cookies, h.email.calls)
			}
		})
	}
}

// Half a sign-in belongs to the session that it confirms, or to none.
func TestHalfIsOfOneSession(t *testing.T) {
	h := newHouse(t, plainHTTP)
	user := h.settle(t)
	session := h.signIn(t).cookies["ipuka"]
	b := h.halfIn(t, user, "/acme")
	b.cookies["ipuka"] = session
	if res := b.post("/signin/second-factor", url.Values{"code": {goodTOTP}}); res.Header.Get("Location") == "/acme" || b.cookies["ipuka"] != session {
		t.Errorf("status %d to %q", res.StatusCode, res.Header.Get("Location"))
	}
}

// flowCookie returns what some browser keeps of its way to a provider.
func (h *house) flowCookie(t testing.TB) string {
	b := h.browser(t)
	b.begins(h.connectors.site[0], "")
	for _, value := range b.cookies {
		return value
	}
	return ""
}

// Who has a second factor is asked for it after every password: of a sign-in, of the
// one that confirms it, and of one that a mail's link has just set (PWD-12).
func TestSecondFactorAfterEveryPassword(t *testing.T) {
	h := newHouse(t, plainHTTP)
	user := h.settle(t)
	b := h.signIn(t)
	h.mfa(user)
	h.later(time.Hour)
	old := b.cookies["ipuka"]
	wants(t, b.get("/signin/again?returnTo=/user/settings/login"), http.StatusOK, "Confirm that it is you", "<strong>alice</strong>", `autocomplete="current-password"`)
	res := b.post("/signin/again", url.Values{"password": {password}, "returnTo": {"/user/settings/login"}})
	if res.Header.Get("Location") != "/signin/second-factor" || b.cookies["ipuka"] != old {
		t.Fatalf("status %d to %q", res.StatusCode, res.Header.Get("Location"))
	}
	if res := b.get("/user/settings/login"); res.StatusCode != http.StatusSeeOther {
		t.Errorf("half confirmed is enough: status %d", res.StatusCode)
	}
	res = b.post("/signin/second-factor", url.Values{"code": {goodTOTP}})
	if res.Header.Get("Location") != "/user/settings/login" || b.cookies["ipuka"] == old {
		t.Fatalf("status %d to %q", res.StatusCode, res.Header.Get("Location"))
	}
	if _, err := h.directory.AuthenticateSession(t.Context(), old); err == nil {
		t.Error("the old session goes on")
	}
	wants(t, b.get("/user/settings/login"), http.StatusOK)

	b = h.browser(t)
	b.post("/password/forgot", url.Values{"email": {"alice@example.com"}})
	res = b.post("/password/reset", url.Values{"code": {"reset-alice"}, "password": {password}, "again": {password}})
	if res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != "/signin?done=reset" || b.cookies["ipuka"] != "" {
		t.Errorf("status %d to %q", res.StatusCode, res.Header.Get("Location"))
	}
}

func TestAgain(t *testing.T) {
	h := newHouse(t, plainHTTP)
	user := h.settle(t)
	if _, err := h.directory.CreateUser(t.Context(), identity.Principal{}, identity.NewUser{Login: "ben"}); err != nil {
		t.Fatal(err)
	}
	b := h.signIn(t)
	wants(t, b.post("/signin/again", url.Values{"password": {"wrong"}, "returnTo": {"/acme"}}), http.StatusUnauthorized, "The password is not right.", `name="returnTo" value="/acme"`)
	wants(t, b.post("/signin/again", url.Values{"password": {"too often"}}), http.StatusTooManyRequests)
	res := b.post("/signin/again", url.Values{"password": {password}, "returnTo": {"//evil.example"}})
	if res.Header.Get("Location") != "/" {
		t.Errorf("to %q", res.Header.Get("Location"))
	}
	h.email.impostor = "ben"
	before := b.cookies["ipuka"]
	if res := b.post("/signin/again", url.Values{"password": {password}}); res.StatusCode == http.StatusSeeOther || b.cookies["ipuka"] != before {
		t.Errorf("somebody else's password: status %d", res.StatusCode)
	}
	h.email.impostor = ""
	h.email.set(user.ID, email.Factors{Passkeys: 1})
	wants(t, b.get("/signin/again"), http.StatusOK, `action="/signin/again/passkey"`, "sealed-challenge")
	old := b.cookies["ipuka"]
	wants(t, b.post("/signin/again/passkey", url.Values{"sealed": {"sealed-challenge"}, "response": {"ben"}}), http.StatusUnauthorized, "This passkey did not work here.")
	if b.cookies["ipuka"] != old {
		t.Error("somebody else's passkey changes the session")
	}
	res = b.post("/signin/again/passkey", url.Values{"sealed": {"sealed-challenge"}, "response": {"alice"}, "returnTo": {"/acme"}})
	if res.Header.Get("Location") != "/acme" || b.cookies["ipuka"] == old {
		t.Errorf("status %d to %q", res.StatusCode, res.Header.Get("Location"))
	}
}

func TestPasskeySignIn(t *testing.T) {
	h := newHouse(t, plainHTTP)
	h.settle(t)
	b := h.browser(t)
	wants(t, b.get("/signin?returnTo=/acme"), http.StatusOK, `data-passkey="get" data-options="{&#34;publicKey&#34;:`, `hidden>`, `value="sealed-challenge"`, "/static/passkey.js")
	wants(t, b.post("/signin/passkey", url.Values{"sealed": {"other"}, "response": {"alice"}}), http.StatusUnauthorized, "This passkey did not work here.")
	wants(t, b.post("/signin/passkey", url.Values{"sealed": {"sealed-challenge"}, "response": {"nobody"}}), http.StatusUnauthorized)
	if len(b.cookies) != 0 {
		t.Fatalf("cookies %v", b.cookies)
	}
	res := b.post("/signin/passkey", url.Values{"sealed": {"sealed-challenge"}, "response": {"alice"}, "returnTo": {"//evil.example"}})
	if res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != "/" || b.cookies["ipuka"] == "" {
		t.Errorf("status %d to %q", res.StatusCode, res.Header.Get("Location"))
	}
}

// Whatever is sensitive leads to signing in again when the session is old, and does
// nothing before (PWD-14, PWD-19).
func TestStepUp(t *testing.T) {
	h := newHouse(t, plainHTTP)
	user := h.settle(t)
	b := h.signIn(t)
	h.later(identity.StepUpWithin + time.Second)
	session := b.cookies["ipuka"]
	identities, err := h.directory.Identities(t.Context(), user.ID)
	if err != nil {
		t.Fatal(err)
	}
	h.email.calls = nil
	for path, back := range map[string]string{
		"GET /user/settings/login": "", "POST /user/settings/login": "", "GET /user/settings/email": "", "POST /user/settings/email": "",
		"GET /user/settings/delete": "", "POST /user/settings/delete": "", "GET /user/settings/password": "", "POST /user/settings/password": "",
		"GET /user/settings/totp": "", "POST /user/settings/totp": "", "GET /user/settings/passkey": "", "POST /user/settings/passkey": "",
		"POST /user/settings/totp/remove": "/user/settings/identities", "POST /user/settings/recovery-codes": "/user/settings/identities",
		"POST /user/settings/passkey/remove": "/user/settings/identities", "POST /user/settings/identities/link": "/user/settings/identities",
		"POST /user/settings/identities/unlink": "/user/settings/identities",
	} {
		method, path, _ := strings.Cut(path, " ")
		if back == "" {
			back = path
		}
		var form url.Values
		if method == http.MethodPost {
			form = url.Values{"login": {"alice"}, "email": {"x@example.com"}, "old": {password}, "password": {password}, "again": {password}, "sealed": {"sealed-totp"}, "code": {goodTOTP},
				"response": {"{}"}, "id": {"key-0"}, "connector": {"email"}, "subject": {"alice@example.com"}}
		}
		res := b.do(method, path, form, nil)
		if want := "/signin/again?returnTo=" + url.QueryEscape(back); res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != want {
			t.Errorf("%s %s: status %d to %q, want %q", method, path, res.StatusCode, res.Header.Get("Location"), want)
		}
	}
	after, err := h.directory.Identities(t.Context(), user.ID)
	if err != nil || !slices.Equal(after, identities) || len(h.email.calls) != 0 || len(h.email.codes) != 0 || b.cookies["ipuka"] != session {
		t.Errorf("identities %v, calls %v, codes %v, %v", after, h.email.calls, h.email.codes, err)
	}
	wants(t, b.get("/acme"), http.StatusOK)
}
