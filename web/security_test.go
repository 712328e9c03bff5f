package web_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/web"
)

const (
	plainHTTP = "http://localhost:3000"
	overTLS   = "https://app.example.test"
)

var fill = strings.NewReplacer("{file}", "console.css", "{org}", "acme", "{project}", "website", "{stack}", "prod", "{version}", "42",
	"{update}", "0f80ae78-0631-4e71-b662-320d13bd631d", "{id}", "no-such-token", "{connector}", "okta", "{user}", "ben", "{team}", "crew", "{invite}", "i-1", "{$}", "")

// sweep calls visit with the answer of every route, and of some addresses that are
// none, for a stranger and for alice.
func sweep(t *testing.T, h *house, visit func(t *testing.T, name string, res *http.Response)) {
	stranger, alice := h.browser(t), h.signIn(t)
	type call struct{ method, path string }
	var calls []call
	for _, r := range web.Routes() {
		calls = append(calls, call{r.Method, fill.Replace(r.Pattern)})
	}
	for _, path := range []string{"/no/such", "/acme/website/nothing", "/acme/website/prod/updates/zero", "/a/b/c/d/e/f", "//acme", "/static/none.css", "/signup", "/%2e%2e/"} {
		calls = append(calls, call{"GET", path})
	}
	calls = append(calls, call{"POST", "/nowhere"}, call{"PUT", "/acme"}, call{"OPTIONS", "/"}, call{"DELETE", "/user/settings/tokens"}, call{"HEAD", "/acme"})
	for who, b := range map[string]*browser{"stranger": stranger, "alice": alice} {
		for _, c := range calls {
			cookies := map[string]string{}
			for k, v := range b.cookies {
				cookies[k] = v
			}
			var form url.Values
			if c.method == http.MethodPost {
				form = url.Values{"x": {"y"}}
			}
			visit(t, who+" "+c.method+" "+c.path, b.do(c.method, c.path, form, nil))
			b.cookies = cookies // whoever signed out is in again
			if c.path == "/signout" && who == "alice" {
				alice = h.signIn(t)
				b.cookies = alice.cookies
			}
		}
	}
}

func TestHeadersOnEveryAnswer(t *testing.T) {
	for _, origin := range []string{plainHTTP, overTLS} {
		h := newHouse(t, origin)
		h.settle(t)
		sweep(t, h, func(t *testing.T, name string, res *http.Response) {
			want := map[string]string{
				"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Cross-Origin-Opener-Policy": "same-origin",
				"Cross-Origin-Resource-Policy": "same-origin", "Referrer-Policy": "same-origin",
			}
			if origin == overTLS {
				want["Strict-Transport-Security"] = "max-age=31536000"
			}
			for header, value := range want {
				if got := res.Header.Get(header); got != value {
					t.Errorf("%s: %s = %q, want %q", name, header, got, value)
				}
			}
			policy := res.Header.Get("Content-Security-Policy")
			for _, part := range []string{"default-src 'none'", "style-src 'self'", "script-src 'self'", "form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'"} {
				if !strings.Contains(policy, part) {
					t.Errorf("%s: policy %q lacks %q", name, policy, part)
				}
			}
			if strings.Contains(policy, "unsafe") || strings.Contains(policy, "*") {
				t.Errorf("%s: policy %q allows too much", name, policy)
			}
			cached := res.StatusCode == http.StatusOK && (strings.Contains(name, "/static/") || strings.Contains(name, "favicon"))
			if !cached && res.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s: Cache-Control = %q", name, res.Header.Get("Cache-Control"))
			}
			if res.StatusCode >= 500 {
				t.Errorf("%s: status %d", name, res.StatusCode)
			}
			if body := text(t, res); strings.Contains(body, "style=") || strings.Contains(body, "<style") || strings.Contains(body, "onclick=") ||
				strings.Count(body, "<script") != strings.Count(body, "<script src=") {
				t.Errorf("%s: the page has inline style or script", name)
			}
		})
	}
}

func TestStrangersAreAskedToSignIn(t *testing.T) {
	h := newHouse(t, plainHTTP)
	h.settle(t)
	stranger := h.browser(t)
	for _, r := range web.Routes() {
		if r.Public {
			continue
		}
		path := fill.Replace(r.Pattern)
		var form url.Values
		if r.Method == http.MethodPost {
			form = url.Values{}
		}
		res := stranger.do(r.Method, path, form, nil)
		want := "/signin"
		if r.Method == http.MethodGet && path != "/" {
			want += "?returnTo=" + url.QueryEscape(path)
		}
		if res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != want {
			t.Errorf("%s %s: status %d to %q, want %q", r.Method, path, res.StatusCode, res.Header.Get("Location"), want)
		}
	}
	if calls := h.gate.seen(); len(calls) != 0 {
		t.Errorf("the API was called for a stranger: %v", calls)
	}
}

// A GET or HEAD changes nothing: no call but GET reaches the API, no token and no
// session comes or goes.
func TestGetChangesNothing(t *testing.T) {
	h := newHouse(t, plainHTTP)
	user := h.settle(t)
	if _, _, err := h.directory.CreateToken(t.Context(), user.Principal("email"), identity.TokenRequest{Description: "kept"}); err != nil {
		t.Fatal(err)
	}
	b := h.signIn(t)
	count := func() (int, int) {
		tokens, _, err := h.directory.Tokens(t.Context(), user.ID, identity.TokenQuery{Filter: identity.AllTokens})
		if err != nil {
			t.Fatal(err)
		}
		sessions, err := h.directory.Sessions(t.Context(), user.ID)
		if err != nil {
			t.Fatal(err)
		}
		return len(tokens), len(sessions)
	}
	tokens, sessions := count()
	for _, r := range web.Routes() {
		path := fill.Replace(r.Pattern)
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			b.do(method, path+"?"+cliQuery(nil).Encode(), nil, nil)
			b.do(method, path+"?deliver=show&days=30&login=alice&password="+url.QueryEscape(password), nil, nil)
		}
	}
	for _, call := range h.gate.seen() {
		if !strings.HasPrefix(call, "GET ") {
			t.Errorf("a GET of a page made the call %s", call)
		}
	}
	if t2, s2 := count(); t2 != tokens || s2 != sessions {
		t.Errorf("tokens %d, sessions %d, before %d and %d", t2, s2, tokens, sessions)
	}
}

func TestOnlyOwnPagesMayPost(t *testing.T) {
	for _, origin := range []string{plainHTTP, overTLS} {
		h := newHouse(t, origin)
		h.settle(t)
		b := h.signIn(t)
		host := strings.SplitN(origin, "//", 2)[1]
		other := map[string]string{plainHTTP: "https://" + host, overTLS: "http://" + host}[origin]
		cases := map[string]http.Header{
			"no word of where it comes from": {"Origin": {""}, "Sec-Fetch-Site": {""}},
			"another site":                   {"Origin": {"https://evil.example"}, "Sec-Fetch-Site": {"cross-site"}},
			"another site, old browser":      {"Origin": {"https://evil.example"}, "Sec-Fetch-Site": {""}},
			"a sandboxed frame":              {"Origin": {"null"}, "Sec-Fetch-Site": {"cross-site"}},
			"null from an old browser":       {"Origin": {"null"}, "Sec-Fetch-Site": {""}},
			"null that says same-origin":     {"Origin": {"null"}, "Sec-Fetch-Site": {"same-origin"}},
			"a sibling":                      {"Origin": {"https://" + "evil." + host}, "Sec-Fetch-Site": {"same-site"}},
			"a name with ours in front":      {"Origin": {origin + ".evil.example"}, "Sec-Fetch-Site": {""}},
			"another port":                   {"Origin": {origin + "1"}, "Sec-Fetch-Site": {""}},
			"another scheme":                 {"Origin": {other}, "Sec-Fetch-Site": {""}},
			"another scheme, same-origin":    {"Origin": {other}, "Sec-Fetch-Site": {"same-origin"}},
			"two origins":                    {"Origin": {origin, origin}, "Sec-Fetch-Site": {"same-origin"}},
			"same site, no origin":           {"Origin": {""}, "Sec-Fetch-Site": {"same-site"}},
		}
		for name, header := range cases {
			for _, path := range []string{"/signin", "/signout", "/cli-login", "/user/settings/tokens", "/setup", "/user/settings/sessions"} {
				res := b.do(http.MethodPost, path, url.Values{"login": {"alice"}, "password": {password}}, header)
				if res.StatusCode != http.StatusForbidden || len(res.Cookies()) != 0 {
					t.Errorf("%s, POST %s: status %d, cookies %v", name, path, res.StatusCode, res.Cookies())
				}
			}
		}
		for name, header := range map[string]http.Header{
			"a page of ours":             nil,
			"a browser without metadata": {"Sec-Fetch-Site": {""}},
		} {
			if res := b.do(http.MethodPost, "/signin", url.Values{"login": {"alice"}, "password": {password}}, header); res.StatusCode != http.StatusSeeOther {
				t.Errorf("%s: status %d", name, res.StatusCode)
			}
		}
	}
}

func TestFormsOnly(t *testing.T) {
	h := newHouse(t, plainHTTP)
	h.settle(t)
	b := h.signIn(t)
	for _, kind := range []string{"text/plain", "application/json", "multipart/form-data; boundary=x", ""} {
		res := b.do(http.MethodPost, "/user/settings/tokens", url.Values{"description": {"x"}, "days": {"7"}}, http.Header{"Content-Type": {kind}})
		wants(t, res, http.StatusUnsupportedMediaType)
	}
	wants(t, b.post("/user/settings/tokens", url.Values{"description": {"a", "b"}, "days": {"7"}}), http.StatusBadRequest)
	wants(t, b.post("/user/settings/tokens", url.Values{"description": {strings.Repeat("x", 70<<10)}}), http.StatusRequestEntityTooLarge)
	for _, r := range h.gate.seen() {
		if strings.HasPrefix(r, "POST") {
			t.Errorf("a refused form made the call %s", r)
		}
	}
}

func TestSessionCookie(t *testing.T) {
	for origin, want := range map[string]string{plainHTTP: "ipuka=", overTLS: "__Host-ipuka="} {
		h := newHouse(t, origin)
		h.settle(t)
		b := h.browser(t)
		res := b.post("/signin", url.Values{"login": {"alice"}, "password": {password}})
		cookie := res.Header.Get("Set-Cookie")
		if !strings.HasPrefix(cookie, want) || !strings.Contains(cookie, "; Path=/") || !strings.Contains(cookie, "; HttpOnly") ||
			!strings.Contains(cookie, "; SameSite=Lax") || strings.Contains(cookie, "Domain") || strings.Contains(cookie, "; Secure") != (origin == overTLS) {
			t.Errorf("%s: cookie %q", origin, cookie)
		}
	}
}

func TestSessions(t *testing.T) {
	h := newHouse(t, plainHTTP)
	user := h.settle(t)
	t.Run("a planted one is not adopted", func(t *testing.T) {
		b := h.browser(t)
		b.cookies["ipuka"] = strings.Repeat("A", 43)
		b.post("/signin", url.Values{"login": {"alice"}, "password": {password}})
		if b.cookies["ipuka"] == strings.Repeat("A", 43) || b.cookies["ipuka"] == "" {
			t.Errorf("cookie %q", b.cookies["ipuka"])
		}
	})
	t.Run("signing in again ends the one before", func(t *testing.T) {
		b := h.signIn(t)
		old := b.cookies["ipuka"]
		wants(t, b.post("/signin", url.Values{"login": {"alice"}, "password": {password}}), http.StatusSeeOther)
		if b.cookies["ipuka"] == old {
			t.Fatal("the same session after signing in")
		}
		b.cookies["ipuka"] = old
		if res := b.get("/acme"); res.StatusCode != http.StatusSeeOther || b.cookies["ipuka"] != "" {
			t.Errorf("the old session: status %d, cookie %q", res.StatusCode, b.cookies["ipuka"])
		}
	})
	t.Run("signing out ends it", func(t *testing.T) {
		b := h.signIn(t)
		secret := b.cookies["ipuka"]
		if res := b.get("/signout"); res.StatusCode == http.StatusOK || b.cookies["ipuka"] != secret {
			t.Errorf("GET /signout: status %d", res.StatusCode)
		}
		wants(t, b.get("/acme"), http.StatusOK)
		wants(t, b.post("/signout", url.Values{}), http.StatusSeeOther)
		if b.cookies["ipuka"] != "" {
			t.Error("the cookie is still there")
		}
		b.cookies["ipuka"] = secret
		wants(t, b.get("/acme"), http.StatusSeeOther)
	})
	t.Run("two cookies of one name are none", func(t *testing.T) {
		b := h.signIn(t)
		res := b.do(http.MethodGet, "/acme", nil, http.Header{"Cookie": {"ipuka=" + b.cookies["ipuka"] + "; ipuka=evil"}})
		wants(t, res, http.StatusSeeOther)
	})
	t.Run("a token is no session", func(t *testing.T) {
		_, secret, err := h.directory.CreateToken(t.Context(), user.Principal("email"), identity.TokenRequest{Description: "x"})
		if err != nil {
			t.Fatal(err)
		}
		b := h.browser(t)
		b.cookies["ipuka"] = secret
		wants(t, b.get("/acme"), http.StatusSeeOther)
	})
	t.Run("the page", func(t *testing.T) {
		here, there := h.signIn(t), h.signIn(t)
		body := wants(t, here.get("/user/settings/sessions"), http.StatusOK, "Chrome on Linux", "192.0.2.1", "this one")
		sessions, err := h.directory.Sessions(t.Context(), user.ID)
		if err != nil {
			t.Fatal(err)
		}
		who, err := h.directory.AuthenticateSession(t.Context(), there.cookies["ipuka"])
		if err != nil || !strings.Contains(body, who.SessionID) || len(sessions) < 2 {
			t.Fatalf("%d sessions, %v", len(sessions), err)
		}
		wants(t, here.post("/user/settings/sessions", url.Values{"session": {who.SessionID}}), http.StatusSeeOther)
		wants(t, there.get("/acme"), http.StatusSeeOther)
		wants(t, here.post("/user/settings/sessions", url.Values{"session": {"no such"}}), http.StatusNotFound)
		wants(t, here.post("/user/settings/sessions", url.Values{}), http.StatusBadRequest)
		wants(t, here.post("/user/settings/sessions", url.Values{"session": {"all"}}), http.StatusSeeOther)
		wants(t, here.get("/acme"), http.StatusSeeOther)
	})
}

// A failure to ask is told from a session that is none.
func TestFaultsAreNotStrangers(t *testing.T) {
	h := newHouse(t, plainHTTP)
	h.settle(t)
	b := h.signIn(t)
	h.gate.set("/api/user", errs.Errorf(errs.Unavailable, "the database does not answer"))
	res := b.get("/acme")
	if wants(t, res, http.StatusServiceUnavailable, "Not now", "Request <code>request-1</code>"); res.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	h.gate.set("/api/user", errs.Wrap(errs.Internal, errs.Errorf(errs.Invalid, "secret detail"), "x"))
	wants(t, b.get("/acme"), http.StatusInternalServerError, "This is our fault", "!secret detail")
}

func TestReturnTo(t *testing.T) {
	for from, want := range map[string]string{
		"/acme/website/prod":             "/acme/website/prod",
		"/acme?q=a%26b":                  "/acme?q=a%26b",
		"/cli-login?cliSessionPort=8080": "/cli-login?cliSessionPort=8080",
		"/":                              "/",
		"":                               "/",
		"//evil.example":                 "/",
		"///evil.example":                "/",
		`/\evil.example`:                 "/",
		`\\evil.example`:                 "/",
		"/%5cevil.example":               "/",
		"/%5c%5cevil.example":            "/",
		"/..//evil.example":              "/",
		"/../acme":                       "/",
		"/%2e%2e/acme":                   "/",
		"/%2f/evil.example":              "/",
		"https:evil.example":             "/",
		"https://evil.example":           "/",
		"javascript:alert(1)":            "/",
		"acme":                           "/",
		"/acme\r\nSet-Cookie: a=b":       "/",
		"/acme%0d%0aSet-Cookie:%20a=b":   "/",
		"/acme\x00":                      "/",
		"/\t/evil.example":               "/",
		"/signin":                        "/",
		"/signout":                       "/",
		"/api/user":                      "/",
		"/acme#//evil":                   "/acme",
		"/" + strings.Repeat("a", 4096):  "/",
	} {
		if got := web.ReturnTo(from); got != want {
			t.Errorf("ReturnTo(%q) = %q, want %q", from, got, want)
		}
	}
}

func FuzzReturnTo(f *testing.F) {
	for _, seed := range []string{"/acme", "//evil.example", `/\evil`, "/%5cevil", "/..//evil", "/a?b=//c", "/%2f%2fevil", "/a;b", "/?x"} {
		f.Add(seed)
	}
	here := &url.URL{Scheme: "https", Host: "app.example.test", Path: "/signin"}
	f.Fuzz(func(t *testing.T, from string) {
		got := web.ReturnTo(from)
		// Browsers take \ for / and drop tabs and line breaks.
		asRead := strings.NewReplacer(`\`, "/", "\t", "", "\n", "", "\r", "").Replace(got)
		to, err := here.Parse(asRead)
		if err != nil || to.Host != here.Host || to.Scheme != here.Scheme || !strings.HasPrefix(asRead, "/") || strings.HasPrefix(asRead, "//") {
			t.Errorf("ReturnTo(%q) = %q leads to %v (%v)", from, got, to, err)
		}
		if again := web.ReturnTo(got); again != got {
			t.Errorf("ReturnTo(%q) = %q, and of that %q", from, got, again)
		}
	})
}
