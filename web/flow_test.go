package web_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipuka/ipuka/identity"
)

// refused holds an answer against the one page that a refused sign-in gets, and the
// record against the one reason.
func refused(t *testing.T, h *house, res *http.Response, status int, reason string) {
	t.Helper()
	wants(t, res, status, "Sign-in did not work", "Request <code>request-1</code>", "!provider", "!"+reason)
	for _, c := range res.Cookies() {
		if c.MaxAge >= 0 {
			t.Errorf("a refused sign-in sets the cookie %s", c.Name)
		}
	}
	want := []string{reason}
	if reason == "" {
		want = nil
	}
	if got := h.audit.refusals(); !slices.Equal(got, want) {
		t.Errorf("on record are %q, want %q", got, want)
	}
}

func TestConnectorSignsIn(t *testing.T) {
	h := newHouse(t, overTLS)
	h.settle(t)
	github := h.connectors.site[0]
	b := h.browser(t)
	wants(t, b.get("/signin?returnTo=/acme/website"), http.StatusOK, `href="/signin/with/github?returnTo=%2Facme%2Fwebsite"`, "Sign in with GitHub", "Sign in with Okta", "or with a password",
		`href="/password/forgot"`, `href="/signup?returnTo=%2Facme%2Fwebsite"`, `action="/signin/sso"`, `data-passkey="get"`)
	f := b.begins(github, "?returnTo=/acme/website")
	if f.Callback != "https://app.example.test/signin/with/github/callback" || len(f.State) != 43 || len(f.Nonce) != 43 || len(f.Verifier) != 43 || !strings.HasPrefix(f.Request, "_") || f.Fresh {
		t.Errorf("the flow is %+v", f)
	}
	res := b.get(callback(github, f.State, "ben"))
	if res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != "/acme/website" || len(b.cookies) != 1 {
		t.Fatalf("status %d to %q, cookies %v: %s", res.StatusCode, res.Header.Get("Location"), b.cookies, text(t, res))
	}
	who, err := h.directory.AuthenticateSession(t.Context(), b.cookies["__Host-ipuka"])
	if err != nil || who.Login != "ben" || who.Connector != "github" {
		t.Errorf("signed in as %q by %q, %v", who.Login, who.Connector, err)
	}
	// Signing in again ends the session before.
	old := b.cookies["__Host-ipuka"]
	f = b.begins(github, "")
	wants(t, b.get(callback(github, f.State, "ben")), http.StatusSeeOther)
	if _, err := h.directory.AuthenticateSession(t.Context(), old); err == nil || b.cookies["__Host-ipuka"] == old {
		t.Error("the old session goes on")
	}
}

func TestFlowCookie(t *testing.T) {
	for origin, want := range map[string]string{plainHTTP: "ipuka-flow-", overTLS: "__Host-ipuka-flow-"} {
		h := newHouse(t, origin)
		h.settle(t)
		okta, saml := h.connectors.site[1], h.singleSignOn(t, "acme")
		for path, site := range map[string]string{"/signin/with/okta": "Lax", "/signin/sso/acme": "None"} {
			b := h.browser(t)
			var found string
			for _, cookie := range b.get(path).Header.Values("Set-Cookie") {
				if strings.HasPrefix(cookie, want) {
					found = cookie
				}
			}
			for _, part := range []string{"; Path=/", "; HttpOnly", "; Max-Age=600", "; SameSite=" + site} {
				if !strings.Contains(found, part) {
					t.Errorf("%s%s: cookie %q lacks %q", origin, path, found, part)
				}
			}
			// Browsers send a cookie along with a form of another site if it is Secure only.
			if strings.Contains(found, "; Secure") != (origin == overTLS || site == "None") || strings.Contains(found, "Domain") {
				t.Errorf("%s%s: cookie %q", origin, path, found)
			}
			for _, f := range append(okta.flows, saml.flows...) {
				for _, secret := range []string{f.State, f.Nonce, f.Verifier, f.Request} {
					if strings.Contains(found, secret) {
						t.Errorf("the cookie %q shows %q", found, secret)
					}
				}
			}
		}
	}
}

// What comes back is taken from the browser that was sent, once, within its time, and
// from the provider that it was sent to (OAU-01, OAU-02, OAU-03).
func TestFlowIsBound(t *testing.T) {
	type world struct {
		h            *house
		b            *browser
		github, okta *oracle
		f            identity.Flow
	}
	for name, test := range map[string]struct {
		visit  func(w world) *http.Response
		reason string
	}{
		"no state":       {func(w world) *http.Response { return w.b.get("/signin/with/github/callback?who=ben") }, "flow_unknown"},
		"an empty state": {func(w world) *http.Response { return w.b.get(callback(w.github, "", "ben")) }, "flow_unknown"},
		"another state": {func(w world) *http.Response {
			return w.b.get(callback(w.github, strings.Repeat("A", 43), "ben"))
		}, "flow_unknown"},
		"two states": {func(w world) *http.Response {
			return w.b.get(callback(w.github, w.f.State, "ben") + "&state=" + w.f.State)
		}, "flow_unknown"},
		"a query that is none": {func(w world) *http.Response {
			return w.b.get(callback(w.github, w.f.State, "ben") + "&%zz")
		}, "flow_unknown"},
		"too late": {func(w world) *http.Response {
			w.h.later(identity.FlowLife)
			return w.b.get(callback(w.github, w.f.State, "ben"))
		}, "flow_expired"},
		"another browser": {func(w world) *http.Response {
			return w.h.browser(w.b.t).get(callback(w.github, w.f.State, "ben"))
		}, "flow_unknown"},
		"another browser that is under way itself": {func(w world) *http.Response {
			other := w.h.browser(w.b.t)
			other.begins(w.github, "")
			return other.get(callback(w.github, w.f.State, "ben"))
		}, "flow_unknown"},
		"the cookie of another flow": {func(w world) *http.Response {
			// Somebody who can set a cookie puts their own flow under the victim's name.
			other := w.h.browser(w.b.t)
			other.begins(w.github, "")
			for name := range w.b.cookies {
				for _, value := range other.cookies {
					w.b.cookies[name] = value
				}
			}
			return w.b.get(callback(w.github, w.f.State, "ben"))
		}, "flow_unknown"},
		"the callback of another connector": {func(w world) *http.Response {
			return w.b.get(callback(w.okta, w.f.State, "ben"))
		}, "flow_connector"},
		"a second time": {func(w world) *http.Response {
			cookies := map[string]string{}
			for k, v := range w.b.cookies {
				cookies[k] = v
			}
			wants(w.b.t, w.b.get(callback(w.github, w.f.State, "ben")), http.StatusSeeOther)
			w.h.audit.refusals()
			w.b.cookies = cookies // the cookie is put back, too
			return w.b.get(callback(w.github, w.f.State, "ben"))
		}, "flow_used"},
		"a cookie that was changed": {func(w world) *http.Response {
			for name, value := range w.b.cookies {
				w.b.cookies[name] = value[:20] + "AAAA" + value[24:]
			}
			return w.b.get(callback(w.github, w.f.State, "ben"))
		}, "flow_unknown"},
		"an error of the provider": {func(w world) *http.Response {
			return w.b.get("/signin/with/github/callback?" + url.Values{"state": {w.f.State}, "error": {"<script>provider"}, "error_uri": {"javascript:alert(1)"}}.Encode())
		}, "provider_error"},
		"no account": {func(w world) *http.Response {
			f := w.b.begins(w.okta, "")
			return w.b.get(callback(w.okta, f.State, "nobody"))
		}, "sign_up_off"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, plainHTTP)
			h.settle(t)
			w := world{h: h, b: h.browser(t), github: h.connectors.site[0], okta: h.connectors.site[1]}
			w.f = w.b.begins(w.github, "")
			h.audit.refusals()
			before := w.github.finished() + w.okta.finished()
			refused(t, h, test.visit(w), http.StatusBadRequest, test.reason)
			if asked := w.github.finished() + w.okta.finished() - before; strings.HasPrefix(test.reason, "flow_") && test.reason != "flow_used" && asked != 0 {
				t.Error("the connector is asked about a flow that is none")
			}
			if w.b.cookies["ipuka"] != "" {
				t.Error("signed in")
			}
		})
	}
}

func TestConnectorIsDown(t *testing.T) {
	h := newHouse(t, plainHTTP)
	h.settle(t)
	github, okta := h.connectors.site[0], h.connectors.site[1]
	b := h.browser(t)
	f := b.begins(okta, "")
	h.audit.refusals()
	okta.down = errDown
	for _, path := range []string{"/signin/with/okta?returnTo=/acme", callback(okta, f.State, "ben")} {
		res := b.get(path)
		wants(t, res, http.StatusServiceUnavailable, "Signing in with Okta is not possible at the moment", "Request <code>request-1</code>", "!provider detail", "!10.0.0.7")
		if res.Header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	}
	if got := h.audit.refusals(); len(got) != 0 {
		t.Errorf("on record are %q", got)
	}
	wants(t, b.get("/signin"), http.StatusOK, "Sign in with GitHub", "Sign in with Okta")
	f = b.begins(github, "")
	wants(t, b.get(callback(github, f.State, "ben")), http.StatusSeeOther)
	wants(t, h.browser(t).get("/signin/with/none"), http.StatusNotFound)
	wants(t, h.browser(t).get("/signin/with/none/callback?state=x"), http.StatusNotFound)
}

// A fault of our own is logged, and neither shown nor recorded but for its being one.
func TestConnectorFault(t *testing.T) {
	h := newHouse(t, plainHTTP)
	h.settle(t)
	github := h.connectors.site[0]
	github.down = errors.New("nil map in the provider's answer")
	h.audit.refusals()
	refused(t, h, h.browser(t).get("/signin/with/github"), http.StatusBadRequest, "internal")
	if log := h.log.String(); !strings.Contains(log, "nil map") || !strings.Contains(log, "request-1") {
		t.Errorf("the log has %q", log)
	}
}

func TestManyFlows(t *testing.T) {
	h := newHouse(t, plainHTTP)
	h.settle(t)
	github := h.connectors.site[0]
	b := h.browser(t)
	var states []string
	for range 8 {
		states = append(states, b.begins(github, "?returnTo=/acme").State)
		h.later(time.Second)
	}
	if len(b.cookies) != 5 {
		t.Errorf("%d flows are open", len(b.cookies))
	}
	refused(t, h, b.get(callback(github, states[2], "ben")), http.StatusBadRequest, "flow_unknown")
	wants(t, b.get(callback(github, states[3], "ben")), http.StatusSeeOther)
	wants(t, b.get(callback(github, states[7], "ben")), http.StatusSeeOther)

	// Long ways back take fewer cookies, so that the header stays short.
	b = h.browser(t)
	for range 5 {
		b.begins(github, "?returnTo=/acme?q="+strings.Repeat("x", 1500))
	}
	size := 0
	for _, value := range b.cookies {
		size += len(value)
	}
	if size > 7<<10 || len(b.cookies) < 2 {
		t.Errorf("%d cookies have %d bytes", len(b.cookies), size)
	}
	b = h.browser(t)
	b.cookies["ipuka-flow-garbage"] = "garbage"
	b.begins(github, "")
	if b.cookies["ipuka-flow-garbage"] != "" {
		t.Error("what opens no more is kept")
	}
}

// Only the loading of a page begins a flow or ends one: not an image on somebody
// else's, and not a program that looks a link over.
func TestOnlyPagesGo(t *testing.T) {
	h := newHouse(t, plainHTTP)
	h.settle(t)
	h.singleSignOn(t, "acme")
	github := h.connectors.site[0]
	b := h.browser(t)
	f := b.begins(github, "")
	for _, path := range []string{"/signin/with/github", "/signin/sso/acme", "/login/acme/sso", "/signin/sso?organization=acme", callback(github, f.State, "ben")} {
		for _, res := range []*http.Response{
			b.do(http.MethodGet, path, nil, http.Header{"Sec-Fetch-Mode": {"no-cors"}, "Sec-Fetch-Dest": {"image"}, "Sec-Fetch-Site": {"cross-site"}}),
			b.do(http.MethodHead, path, nil, nil),
		} {
			if res.StatusCode != http.StatusBadRequest || len(b.cookies) > 2 {
				t.Errorf("%s: status %d, cookies %v", path, res.StatusCode, b.cookies)
			}
		}
	}
	if len(github.flows) != 1 || github.finished() != 0 {
		t.Errorf("%d flows began, %d ended", len(github.flows), github.finished())
	}
	wants(t, b.do(http.MethodGet, callback(github, f.State, "ben"), nil, http.Header{"Sec-Fetch-Mode": {"navigate"}, "Sec-Fetch-Site": {"cross-site"}}), http.StatusSeeOther)
}

func TestFlowReturnsHere(t *testing.T) {
	h := newHouse(t, plainHTTP)
	h.settle(t)
	h.singleSignOn(t, "acme")
	github := h.connectors.site[0]
	for _, to := range []string{"//evil.example", `/\evil.example`, "https:evil.example", "javascript:alert(1)", "/%5cevil.example", "/..//evil.example", "/acme\r\nX:y"} {
		b := h.browser(t)
		f := b.begins(github, "?"+url.Values{"returnTo": {to}}.Encode())
		if res := b.get(callback(github, f.State, "ben")); res.Header.Get("Location") != "/" {
			t.Errorf("%q: signing in leads to %q", to, res.Header.Get("Location"))
		}
		page := wants(t, h.browser(t).get("/signin/sso?"+url.Values{"returnTo": {to}}.Encode()), http.StatusOK)
		if strings.Contains(page, "evil") || strings.Contains(page, "alert") {
			t.Errorf("%q is on the page", to)
		}
	}
}

// The request of a pulumi command survives every way of signing in (CLI-09).
func TestCLILoginSurvivesDetours(t *testing.T) {
	path := "/cli-login?" + cliQuery(url.Values{"cliCommand": {"pulumi new & more"}}).Encode()
	for name, signIn := range map[string]func(h *house, b *browser, user identity.User, to string) *http.Response{
		"a connector": func(h *house, b *browser, _ identity.User, to string) *http.Response {
			page := text(b.t, b.get("/signin?"+url.Values{"returnTo": {to}}.Encode()))
			_, rest, _ := strings.Cut(page, `href="/signin/with/github`)
			query, _, _ := strings.Cut(rest, `"`)
			f := b.begins(h.connectors.site[0], strings.ReplaceAll(query, "&amp;", "&"))
			return b.get(callback(h.connectors.site[0], f.State, "ben"))
		},
		"single sign-on": func(h *house, b *browser, _ identity.User, to string) *http.Response {
			saml := h.singleSignOn(b.t, "acme")
			h.backed(b.t, "acme")
			wants(b.t, b.get("/signin/sso?"+url.Values{"organization": {"acme"}, "returnTo": {to}}.Encode()), http.StatusOK)
			return b.posts("/login/acme/sso/saml/acs", url.Values{"RelayState": {saml.last(b.t).State}, "who": {"ben"}})
		},
		"a password and a second factor": func(h *house, b *browser, user identity.User, to string) *http.Response {
			h.mfa(user)
			wants(b.t, b.post("/signin", url.Values{"login": {"alice"}, "password": {password}, "returnTo": {to}}), http.StatusSeeOther)
			return b.post("/signin/second-factor", url.Values{"code": {goodTOTP}})
		},
		"a passkey": func(_ *house, b *browser, _ identity.User, to string) *http.Response {
			return b.post("/signin/passkey", url.Values{"sealed": {"sealed-challenge"}, "response": {"alice"}, "returnTo": {to}})
		},
		"signing up": func(_ *house, b *browser, _ identity.User, to string) *http.Response {
			wants(b.t, b.post("/signup", url.Values{"login": {"newcomer"}, "email": {"new@example.com"}, "password": {password}, "again": {password}, "returnTo": {to}}), http.StatusOK)
			return b.post("/signup/confirm", url.Values{"code": {"signup-newcomer"}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, overTLS)
			user := h.settle(t)
			b := h.browser(t)
			asked, err := url.Parse(b.get(path).Header.Get("Location"))
			if err != nil || asked.Path != "/signin" {
				t.Fatalf("to %v, %v", asked, err)
			}
			res := signIn(h, b, user, asked.Query().Get("returnTo"))
			if res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != path {
				t.Fatalf("status %d to %q, want %q", res.StatusCode, res.Header.Get("Location"), path)
			}
			wants(t, b.get(path), http.StatusOK, "pulumi new &amp; more", nonce, "Allow sign-in")
		})
	}
}

func TestFlowPurposes(t *testing.T) {
	h := newHouse(t, plainHTTP)
	alice := h.settle(t)
	github, okta := h.connectors.site[0], h.connectors.site[1]
	begin := func(b *browser, path string, o *oracle, form url.Values) identity.Flow {
		t.Helper()
		form.Set("connector", o.info.Name)
		res := b.post(path, form)
		wants(t, res, http.StatusOK, "Going to "+o.info.Title, `id="handoff"`, "/static/handoff.js")
		if strings.Contains(res.Header.Get("Content-Security-Policy"), "example/") {
			t.Errorf("policy %q", res.Header.Get("Content-Security-Policy"))
		}
		return o.last(t)
	}
	identities := func() int {
		all, err := h.directory.Identities(t.Context(), alice.ID)
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}

	t.Run("link", func(t *testing.T) {
		b := h.signIn(t)
		f := begin(b, "/user/settings/identities/link", okta, url.Values{})
		session := b.cookies["ipuka"]
		res := b.get(callback(okta, f.State, "alice-at-okta"))
		if res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != "/user/settings/identities?done=linked" || b.cookies["ipuka"] != session {
			t.Fatalf("status %d to %q: %s", res.StatusCode, res.Header.Get("Location"), text(t, res))
		}
		if identities() != 2 {
			t.Errorf("%d identities", identities())
		}
		wants(t, b.get("/user/settings/identities?done=linked"), http.StatusOK, "The account is linked", "Okta", "alice-at-okta", "Link GitHub", "!Link Okta")
		other := h.browser(t)
		f = other.begins(okta, "")
		wants(t, other.get(callback(okta, f.State, "alice-at-okta")), http.StatusSeeOther)
	})
	t.Run("link what is somebody else's", func(t *testing.T) {
		other := h.browser(t)
		f := other.begins(github, "")
		wants(t, other.get(callback(github, f.State, "ben")), http.StatusSeeOther)
		b := h.signIn(t)
		f = begin(b, "/user/settings/identities/link", github, url.Values{})
		h.audit.refusals()
		wants(t, b.get(callback(github, f.State, "ben")), http.StatusConflict, "Nothing was linked", "Somebody else signs in here with this account at GitHub", "!ben")
		if got := h.audit.refusals(); len(got) != 1 {
			t.Errorf("on record are %q", got)
		}
	})
	t.Run("link after signing out", func(t *testing.T) {
		b := h.signIn(t)
		f := begin(b, "/user/settings/identities/link", github, url.Values{})
		b.post("/signout", url.Values{})
		h.audit.refusals()
		before := github.finished()
		wants(t, b.get(callback(github, f.State, "fresh")), http.StatusBadRequest, "Nothing was linked")
		if got := h.audit.refusals(); !slices.Equal(got, []string{"flow_session"}) || github.finished() != before {
			t.Errorf("on record are %q", got)
		}
	})
	t.Run("link without the session", func(t *testing.T) {
		// A redirect comes with the session's cookie, so that nothing stands for it.
		b := h.signIn(t)
		f := begin(b, "/user/settings/identities/link", github, url.Values{})
		delete(b.cookies, "ipuka")
		wants(t, b.get(callback(github, f.State, "fresh")), http.StatusBadRequest, "Nothing was linked")
	})
	t.Run("link in another session", func(t *testing.T) {
		b := h.signIn(t)
		f := begin(b, "/user/settings/identities/link", github, url.Values{})
		b.cookies["ipuka"] = h.signIn(t).cookies["ipuka"]
		wants(t, b.get(callback(github, f.State, "fresh")), http.StatusBadRequest, "Nothing was linked")
	})
	t.Run("link with a session that is too old", func(t *testing.T) {
		b := h.signIn(t)
		h.later(identity.StepUpWithin + time.Second)
		res := b.post("/user/settings/identities/link", url.Values{"connector": {"github"}})
		if res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != "/signin/again?returnTo=%2Fuser%2Fsettings%2Fidentities" {
			t.Errorf("status %d to %q", res.StatusCode, res.Header.Get("Location"))
		}
		// It gets too old at the provider.
		b = h.signIn(t)
		h.later(identity.StepUpWithin - time.Minute)
		f := begin(b, "/user/settings/identities/link", github, url.Values{})
		h.later(2 * time.Minute)
		if res := b.get(callback(github, f.State, "fresh")); res.StatusCode != http.StatusSeeOther || !strings.HasPrefix(res.Header.Get("Location"), "/signin/again?") {
			t.Errorf("status %d to %q", res.StatusCode, res.Header.Get("Location"))
		}
	})
	t.Run("again", func(t *testing.T) {
		b := h.signIn(t)
		h.later(time.Hour)
		f := begin(b, "/signin/again/with", okta, url.Values{"returnTo": {"/user/settings/login"}})
		if !f.Fresh {
			t.Error("the provider is not told to ask again")
		}
		old := b.cookies["ipuka"]
		h.audit.refusals()
		wants(t, b.get(callback(okta, f.State, "ben")), http.StatusBadRequest, "Sign-in did not work")
		if got := h.audit.refusals(); !slices.Equal(got, []string{"other_account"}) || b.cookies["ipuka"] != old {
			t.Errorf("on record are %q", got)
		}
		f = begin(b, "/signin/again/with", okta, url.Values{"returnTo": {"/user/settings/login"}})
		res := b.get(callback(okta, f.State, "alice-at-okta"))
		if res.Header.Get("Location") != "/user/settings/login" || b.cookies["ipuka"] == old {
			t.Errorf("status %d to %q", res.StatusCode, res.Header.Get("Location"))
		}
		if _, err := h.directory.AuthenticateSession(t.Context(), old); err == nil {
			t.Error("the old session goes on")
		}
		wants(t, b.get("/user/settings/login"), http.StatusOK, "Change your login")
	})
	t.Run("test", func(t *testing.T) {
		b := h.signIn(t)
		f := begin(b, "/signin/test", okta, url.Values{"returnTo": {"/acme"}})
		session, before := b.cookies["ipuka"], identities()
		wants(t, b.get(callback(okta, f.State, "carol")), http.StatusOK, "Test of Okta", "id-of-carol", "CAROL", "urn:oid:mail", "&lt;b&gt;platform&lt;/b&gt;", "acme/platform",
			"this connector makes no accounts", `href="/acme"`)
		if b.cookies["ipuka"] != session || identities() != before {
			t.Error("a test changes something")
		}
		if _, err := h.directory.UserByLogin(t.Context(), "carol"); err == nil {
			t.Error("a test makes an account")
		}
		f = begin(b, "/signin/test", okta, url.Values{})
		wants(t, b.get(callback(okta, f.State, "alice-at-okta")), http.StatusOK, "This identity signs in as alice.")
		f = begin(b, "/signin/test", okta, url.Values{})
		h.audit.refusals()
		wants(t, b.get("/signin/with/okta/callback?error=x&state="+f.State), http.StatusOK, "Refused: <code>provider_error</code>", "the provider answered access_denied", "!provider text")
		if got := h.audit.refusals(); !slices.Equal(got, []string{"provider_error"}) {
			t.Errorf("on record are %q", got)
		}
		f = begin(b, "/signin/test", okta, url.Values{})
		refused(t, h, h.browser(t).get(callback(okta, f.State, "alice-at-okta")), http.StatusBadRequest, "flow_unknown")
	})
	t.Run("a test is for administrators", func(t *testing.T) {
		b := h.browser(t)
		f := b.begins(github, "")
		wants(t, b.get(callback(github, f.State, "ben")), http.StatusSeeOther)
		wants(t, b.post("/signin/test", url.Values{"connector": {"okta"}}), http.StatusForbidden)
		saml := h.singleSignOn(t, "acme")
		wants(t, b.post("/signin/test", url.Values{"connector": {saml.info.Name}}), http.StatusForbidden)
		wants(t, b.post("/signin/test", url.Values{"connector": {"none"}}), http.StatusNotFound)
	})
}

// A browser that has come by another name of the console is asked, once, to begin under
// the one that the provider leads back to.
func TestFlowBeginsUnderTheConsolesName(t *testing.T) {
	h := newHouse(t, plainHTTP)
	for _, c := range []struct{ target, host, want string }{
		{"/signin/with/github?returnTo=/acme", "127.0.0.1:3000", plainHTTP + "/signin/with/github?moved=&returnTo=%2Facme"},
		{"/signin/with/github?moved=", "127.0.0.1:3000", ""},
		{"/signin/with/github", "LOCALHOST:9999", ""}, // cookies know no ports
	} {
		r := httptest.NewRequest(http.MethodGet, c.target, nil)
		r.Host = c.host
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		location := w.Header().Get("Location")
		if moved := strings.HasPrefix(location, plainHTTP+"/signin/with/"); moved != (c.want != "") || moved && location != c.want {
			t.Errorf("%s at %s leads to %q, want %q", c.target, c.host, location, c.want)
		}
	}
}
