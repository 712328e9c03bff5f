package web_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/identity/email"
)

func TestSignUp(t *testing.T) {
	h := newHouse(t, plainHTTP)
	h.settle(t)
	b := h.browser(t)
	wants(t, b.get("/signup?returnTo=/acme"), http.StatusOK, "Sign up", `name="returnTo" value="/acme"`)
	form := url.Values{"login": {"carol"}, "name": {"Carol <b>"}, "email": {"Carol@example.com"}, "password": {password}, "again": {password}, "returnTo": {"/acme"}}
	with := func(name, value string) url.Values {
		changed := url.Values{}
		for k, v := range form {
			changed[k] = v
		}
		changed.Set(name, value)
		return changed
	}
	wants(t, b.post("/signup", with("again", "x")), http.StatusBadRequest, "The two passwords are not the same.", `value="carol"`, "Carol &lt;b&gt;", "!"+password)
	short := with("password", "short")
	short.Set("again", "short")
	wants(t, b.post("/signup", short), http.StatusBadRequest, "The password is too short.")
	wants(t, b.post("/signup", form), http.StatusOK, "Look into your mailbox", "Carol@example.com", "!"+password)

	// Programs that look mails over follow the link, and nothing happens (PWD-11).
	for range 3 {
		wants(t, h.browser(t).get("/signup/confirm?code=signup-carol"), http.StatusOK, "<strong>carol</strong>", "Carol@example.com", `value="signup-carol"`)
	}
	if _, err := h.directory.UserByLogin(t.Context(), "carol"); err == nil {
		t.Fatal("a GET makes the account")
	}
	wants(t, h.browser(t).get("/signup/confirm?code=wrong"), http.StatusBadRequest, "This link does not work", "!detail about")
	wants(t, b.post("/signup/confirm", url.Values{"code": {"wrong"}}), http.StatusBadRequest, "This link does not work", "!detail about")

	t.Run("in another browser nobody is signed in", func(t *testing.T) {
		wants(t, b.post("/signup", with("login", "dora")), http.StatusOK)
		other := h.browser(t)
		res := other.post("/signup/confirm", url.Values{"code": {"signup-dora"}})
		if res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != "/signin?done=confirmed" || len(other.cookies) != 0 {
			t.Errorf("status %d to %q, cookies %v", res.StatusCode, res.Header.Get("Location"), other.cookies)
		}
		wants(t, other.get("/signin?done=confirmed"), http.StatusOK, "The account is ready.")
	})
	t.Run("in a browser that signed up for something else", func(t *testing.T) {
		victim := h.browser(t)
		wants(t, victim.post("/signup", url.Values{"login": {"eve2"}, "email": {"other@example.com"}, "password": {password}, "again": {password}}), http.StatusOK)
		h.email.mail("signup-fay", "signup fay fay@example.com")
		res := victim.post("/signup/confirm", url.Values{"code": {"signup-fay"}})
		if res.Header.Get("Location") != "/signin?done=confirmed" || victim.cookies["ipuka"] != "" {
			t.Errorf("status %d to %q", res.StatusCode, res.Header.Get("Location"))
		}
	})
	t.Run("in the same browser, too late", func(t *testing.T) {
		b := h.browser(t)
		wants(t, b.post("/signup", url.Values{"login": {"hal"}, "email": {"hal@example.com"}, "password": {password}, "again": {password}}), http.StatusOK)
		h.later(24 * time.Hour)
		if res := b.post("/signup/confirm", url.Values{"code": {"signup-hal"}}); res.Header.Get("Location") != "/signin?done=confirmed" {
			t.Errorf("status %d to %q", res.StatusCode, res.Header.Get("Location"))
		}
	})
	t.Run("in the same browser", func(t *testing.T) {
		b := h.browser(t)
		form := url.Values{"login": {"gus"}, "email": {"Gus@Example.com"}, "password": {password}, "again": {password}, "returnTo": {"/acme"}}
		wants(t, b.post("/signup", form), http.StatusOK)
		res := b.post("/signup/confirm", url.Values{"code": {"signup-gus"}})
		if res.Header.Get("Location") != "/acme" || b.cookies["ipuka"] == "" || b.cookies["ipuka-signup"] != "" {
			t.Errorf("status %d to %q, cookies %v", res.StatusCode, res.Header.Get("Location"), b.cookies)
		}
	})
	t.Run("switched off", func(t *testing.T) {
		h.email.settings = email.Settings{}
		b := h.browser(t)
		wants(t, b.get("/signup"), http.StatusNotFound, "Signing up is switched off here")
		wants(t, b.post("/signup", form), http.StatusNotFound)
		wants(t, b.get("/password/forgot"), http.StatusNotFound)
		wants(t, b.post("/password/forgot", url.Values{"email": {"alice@example.com"}}), http.StatusNotFound)
		wants(t, b.get("/signin"), http.StatusOK, "Sign in with GitHub", "!type=\"password\"", "!/signup", "!data-passkey=")
		wants(t, b.post("/signin", url.Values{"login": {"alice"}, "password": {password}}), http.StatusForbidden, "switched off")
		if b.cookies["ipuka"] != "" {
			t.Error("signed in")
		}
	})
}

func TestReset(t *testing.T) {
	h := newHouse(t, plainHTTP)
	h.settle(t)
	b := h.browser(t)
	wants(t, b.get("/password/forgot"), http.StatusOK, "Forgotten password")
	known := text(t, b.post("/password/forgot", url.Values{"email": {"alice@example.com"}}))
	unknown := text(t, b.post("/password/forgot", url.Values{"email": {"nobody@example.com"}}))
	if strings.ReplaceAll(known, "alice@", "nobody@") != unknown {
		t.Errorf("the answers for a known and an unknown address differ:\n%s\n%s", known, unknown)
	}
	wants(t, b.post("/password/forgot", url.Values{"email": {"alice@example.com", "evil@example.com"}}), http.StatusBadRequest)
	for range 10 {
		res := b.get("/password/reset?code=reset-alice")
		wants(t, res, http.StatusOK, "New password", `value="reset-alice"`)
		// A page whose address has a code tells nobody its address, and may send its form.
		if res.Header.Get("Referrer-Policy") != "strict-origin" || res.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("headers %v", res.Header)
		}
	}
	wants(t, b.get("/password/reset?code=wrong"), http.StatusBadRequest, "This link does not work", "/password/forgot", "!detail about")
	wants(t, b.post("/password/reset", url.Values{"code": {"reset-alice"}, "password": {password}, "again": {"x"}}), http.StatusBadRequest, "not the same", `value="reset-alice"`)
	wants(t, b.post("/password/reset", url.Values{"code": {"reset-alice"}, "password": {"short"}, "again": {"short"}}), http.StatusBadRequest, "too short", `value="reset-alice"`)
	wants(t, b.post("/password/reset", url.Values{"code": {"reset-alice"}, "password": {password}, "again": {password}}), http.StatusSeeOther)
	wants(t, b.post("/password/reset", url.Values{"code": {"reset-alice"}, "password": {password}, "again": {password}}), http.StatusBadRequest, "This link does not work")
	wants(t, b.get("/signin?done=reset"), http.StatusOK, "The new password is set.")
}

func TestConfirmEmail(t *testing.T) {
	h := newHouse(t, plainHTTP)
	h.settle(t)
	b := h.signIn(t)
	wants(t, b.post("/user/settings/email", url.Values{"email": {"nonsense"}}), http.StatusBadRequest, "This is no e-mail address.", `value="nonsense"`)
	wants(t, b.post("/user/settings/email", url.Values{"email": {"alice@new.example"}}), http.StatusSeeOther)
	for range 3 {
		wants(t, h.browser(t).get("/email/confirm?code=email-alice"), http.StatusOK, "Confirm your e-mail address", `value="email-alice"`)
	}
	wants(t, b.post("/email/confirm", url.Values{"code": {"wrong"}}), http.StatusBadRequest, "This link does not work", "!detail about")
	res := b.post("/email/confirm", url.Values{"code": {"email-alice"}})
	if res.Header.Get("Location") != "/user/settings/profile?done=confirmed" {
		t.Errorf("status %d to %q", res.StatusCode, res.Header.Get("Location"))
	}
	wants(t, b.post("/email/confirm", url.Values{"code": {"email-alice"}}), http.StatusBadRequest)
}

func TestInvites(t *testing.T) {
	h := newHouse(t, plainHTTP)
	alice := h.settle(t)
	acme, err := h.directory.Organization(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	invite := func(address string) (identity.Invite, string) {
		t.Helper()
		i, secret, err := h.directory.CreateInvite(t.Context(), alice.Principal("email"), acme.ID, address, identity.RoleMember)
		if err != nil {
			t.Fatal(err)
		}
		return i, secret
	}
	newcomer := func(login string) *browser {
		t.Helper()
		if _, err := h.directory.CreateUser(t.Context(), identity.Principal{}, identity.NewUser{Login: login, Email: login + "@example.com"}); err != nil {
			t.Fatal(err)
		}
		b := h.browser(t)
		wants(t, b.post("/signin", url.Values{"login": {login}, "password": {password}}), http.StatusSeeOther)
		return b
	}
	member := func(login string) bool {
		t.Helper()
		user, err := h.directory.UserByLogin(t.Context(), login)
		if err != nil {
			t.Fatal(err)
		}
		memberships, err := h.directory.Organizations(t.Context(), user.ID)
		if err != nil {
			t.Fatal(err)
		}
		return len(memberships) > 0
	}

	_, link := invite("")
	stranger := h.browser(t)
	back := url.QueryEscape("/invite?code=" + link)
	res := stranger.get("/invite?code=" + link)
	wants(t, res, http.StatusOK, "Alice Kealoha", "a member", "<strong>acme</strong>", `href="/signin?returnTo=`+back+`"`, `href="/signup?returnTo=`+back+`"`)
	if res.Header.Get("Referrer-Policy") != "strict-origin" {
		t.Errorf("Referrer-Policy %q", res.Header.Get("Referrer-Policy"))
	}
	if res := stranger.post("/invite", url.Values{"code": {link}}); res.Header.Get("Location") != "/signin" {
		t.Errorf("a stranger is led to %q", res.Header.Get("Location"))
	}
	ben := newcomer("ben")
	for range 3 {
		wants(t, ben.get("/invite?code="+link), http.StatusOK, "Join as ben", "!Sign in to accept")
	}
	if member("ben") {
		t.Fatal("a GET accepts the invite")
	}
	if res := ben.post("/invite", url.Values{"code": {link}}); res.Header.Get("Location") != "/acme" || !member("ben") {
		t.Fatalf("status %d to %q", res.StatusCode, res.Header.Get("Location"))
	}
	carol := newcomer("carol")
	wants(t, carol.get("/invite?code="+link), http.StatusNotFound, "This invite does not work")
	wants(t, carol.post("/invite", url.Values{"code": {link}}), http.StatusNotFound, "This invite does not work")
	wants(t, carol.post("/invite", url.Values{}), http.StatusNotFound)
	_, another := invite("")
	wants(t, ben.post("/invite", url.Values{"code": {another}}), http.StatusConflict, "You are a member already")
	h.later(identity.InviteLife)
	wants(t, h.browser(t).get("/invite?code="+another), http.StatusNotFound, "This invite does not work")

	// One that was sent to somebody else waits for an administrator (PWD-24).
	_, addressed := invite("dora@example.com")
	carol = newcomer("carla")
	wants(t, carol.get("/invite?code="+addressed), http.StatusOK, "Join as carla", "an administrator of acme decides", "!dora@")
	wants(t, carol.post("/invite", url.Values{"code": {addressed}}), http.StatusOK, "An administrator has to agree")
	if member("carla") {
		t.Error("a forwarded invite lets in")
	}

	_, _ = invite("erin@example.com")
	erin := newcomer("erin")
	wants(t, erin.get("/user/settings/invites"), http.StatusOK, "Nobody has invited you lately", "erin@example.com</strong> is not confirmed")
	user, err := h.directory.UserByLogin(t.Context(), "erin")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.directory.SetEmail(t.Context(), identity.Principal{}, user.ID, "erin@example.com", true); err != nil {
		t.Fatal(err)
	}
	page := wants(t, erin.get("/user/settings/invites"), http.StatusOK, "acme", "a member", "Alice Kealoha", "in 7 days")
	_, rest, _ := strings.Cut(page, `name="id" value="`)
	id, _, _ := strings.Cut(rest, `"`)
	if res := erin.post("/invite", url.Values{"id": {id}}); res.Header.Get("Location") != "/acme" || !member("erin") {
		t.Errorf("status %d to %q", res.StatusCode, res.Header.Get("Location"))
	}
}
