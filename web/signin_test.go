package web_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/database/databasetest"
	"github.com/ipuka/ipuka/web"
)

func TestSetup(t *testing.T) {
	h := newHouse(t, plainHTTP)
	h.furnish()
	b := h.browser(t)
	code, err := h.directory.SetupCode(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wants(t, b.get("/setup"), http.StatusForbidden)
	wants(t, b.get("/setup?code=wrong"), http.StatusForbidden, "!Password again")
	wants(t, b.get("/setup?code="+code), http.StatusOK, "Set up Ipuka", `name="code" value="`+code, "Password again")

	form := url.Values{"code": {code}, "organization": {"acme"}, "login": {"alice"}, "name": {"Alice <b>Kealoha</b>"}, "email": {"alice@example.com"},
		"password": {password}, "again": {password}}
	with := func(name, value string) url.Values {
		changed := url.Values{}
		for k, v := range form {
			changed[k] = v
		}
		changed.Set(name, value)
		return changed
	}
	wants(t, b.post("/setup", with("again", "another")), http.StatusBadRequest, "The two passwords are not the same.", `value="acme"`, "Alice &lt;b&gt;", "!"+password)
	wants(t, b.post("/setup", with("login", "signin")), http.StatusBadRequest, "reserved word")
	short := with("password", "short")
	short.Set("again", "short")
	wants(t, b.post("/setup", short), http.StatusBadRequest, "The password is too short.")
	wants(t, b.post("/setup", with("code", "wrong")), http.StatusForbidden)
	if len(b.cookies) != 0 {
		t.Fatalf("signed in after a failed setup: %v", b.cookies)
	}

	if res := b.post("/setup", form); res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != "/" || len(b.cookies) != 1 {
		t.Fatalf("status %d to %q: %s", res.StatusCode, res.Header.Get("Location"), text(t, res))
	}
	wants(t, b.get("/acme"), http.StatusOK)
	wants(t, b.get("/setup?code="+code), http.StatusNotFound)
	wants(t, h.browser(t).post("/setup", form), http.StatusNotFound)
	if strings.Contains(h.log.String(), code) {
		t.Error("the setup code is in the log")
	}
}

func TestSignIn(t *testing.T) {
	h := newHouse(t, plainHTTP)
	h.settle(t)
	b := h.browser(t)
	wants(t, b.get("/signin?returnTo=/acme/website"), http.StatusOK, `name="returnTo" value="/acme/website"`, "pulumi login https://api.example.test", "PULUMI_CONSOLE_DOMAIN=localhost:3000")
	wants(t, b.get("/signin?returnTo=//evil.example"), http.StatusOK, `name="returnTo" value="/"`)

	wrong := b.post("/signin", url.Values{"login": {`al"><script>`}, "password": {"wrong"}, "returnTo": {"/acme"}})
	wants(t, wrong, http.StatusUnauthorized, "This login and password do not belong together.", "al&#34;&gt;&lt;script&gt;", `name="returnTo" value="/acme"`, "!wrong")
	disabled := b.post("/signin", url.Values{"login": {"alice"}, "password": {"disabled"}})
	wants(t, disabled, http.StatusUnauthorized, "This login and password do not belong together.", "!account is disabled")
	often := b.post("/signin", url.Values{"login": {"alice"}, "password": {"too often"}})
	if wants(t, often, http.StatusTooManyRequests, "Too many attempts"); often.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	res := b.post("/signin", url.Values{"login": {" alice "}, "password": {password}, "returnTo": {"/acme/website"}})
	if res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != "/acme/website" {
		t.Errorf("status %d to %q", res.StatusCode, res.Header.Get("Location"))
	}
	if res := b.get("/signin?returnTo=/acme"); res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != "/acme" {
		t.Errorf("who is signed in gets status %d to %q", res.StatusCode, res.Header.Get("Location"))
	}
	evil := b.post("/signin", url.Values{"login": {"alice"}, "password": {password}, "returnTo": {"//evil.example"}})
	if evil.Header.Get("Location") != "/" {
		t.Errorf("sign-in leads to %q", evil.Header.Get("Location"))
	}
	wants(t, b.get("/signin/sso/acme/reauth"), http.StatusNotFound, "has single sign-on here")
	if strings.Contains(h.log.String(), password) || strings.Contains(h.log.String(), b.cookies["ipuka"]) {
		t.Error("the log has a secret")
	}
}

func TestNewRefuses(t *testing.T) {
	directory, err := identity.Open(identity.Config{DB: databasetest.SQLite(t, identity.Migrations), Audit: silent{}})
	if err != nil {
		t.Fatal(err)
	}
	config := func() web.Config {
		return web.Config{Directory: directory, Email: newPasswords(directory), Key: testKey, API: http.NotFoundHandler(), APIURL: "https://api.example.test", ConsoleURL: "https://app.example.test"}
	}
	if _, err := web.New(config()); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*web.Config){
		"no directory":        func(c *web.Config) { c.Directory = nil },
		"no way to sign in":   func(c *web.Config) { c.Email = nil },
		"no API":              func(c *web.Config) { c.API = nil },
		"no key":              func(c *web.Config) { c.Key = nil },
		"a short key":         func(c *web.Config) { c.Key = testKey[1:] },
		"plain http":          func(c *web.Config) { c.ConsoleURL = "http://app.example.test" },
		"no host":             func(c *web.Config) { c.ConsoleURL = "https:///x" },
		"a path only":         func(c *web.Config) { c.APIURL = "/api" },
		"a password":          func(c *web.Config) { c.APIURL = "https://a:b@api.example.test" },
		"another scheme":      func(c *web.Config) { c.ConsoleURL = "ftp://localhost" },
		"not a loopback name": func(c *web.Config) { c.ConsoleURL = "http://localhost.evil.example" },
	} {
		c := config()
		change(&c)
		if _, err := web.New(c); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}
