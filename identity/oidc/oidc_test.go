package oidc_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/identity/oidc"
	"github.com/ipuka/ipuka/identity/oidc/oidctest"
	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/outbound"
)

const callback = "http://127.0.0.1:1/signin/with/corp/callback"

func random() string {
	raw := make([]byte, 32)
	_, _ = rand.Read(raw)
	return base64.RawURLEncoding.EncodeToString(raw)
}

func newFlow() identity.Flow {
	return identity.Flow{
		State: random(), Nonce: random(), Verifier: oauth2.GenerateVerifier(), Callback: callback,
		Expires: time.Now().Add(identity.FlowLife),
	}
}

// connector returns one for p's client, which reaches this machine.
func connector(t *testing.T, p *oidctest.Provider, change func(*oidc.Config)) *oidc.Connector {
	t.Helper()
	config := oidc.Config{
		Name: "corp", Issuer: p.Issuer, ClientID: oidctest.ClientID, ClientSecret: oidctest.ClientSecret, GroupsClaim: "groups",
		Client: outbound.Client(outbound.Options{Private: true}),
	}
	if change != nil {
		change(&config)
	}
	c, err := oidc.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// arrive signs login in, all the way.
func arrive(t *testing.T, c *oidc.Connector, p *oidctest.Provider, login string) (identity.External, error) {
	t.Helper()
	f := newFlow()
	values := signIn(t, c, p, f, login)
	return c.Finish(context.Background(), f, identity.Response{Method: http.MethodGet, Values: values})
}

func signIn(t *testing.T, c *oidc.Connector, p *oidctest.Provider, f identity.Flow, login string) url.Values {
	t.Helper()
	to, err := c.Begin(context.Background(), f)
	if err != nil {
		t.Fatal(err)
	}
	return p.SignIn(t, to.URL, login, login+"-pw").Query()
}

// refused fails unless err is a refusal for a reason, with words for the administrator
// and none for the public.
func refused(t *testing.T, err error, reason string) {
	t.Helper()
	r, ok := errors.AsType[*identity.Refusal](err)
	if !ok {
		t.Errorf("got %v, want a refusal for %s", err, reason)
		return
	}
	if r.Reason != reason || r.Detail == "" || errs.Public(err) != "the sign-in did not work" || r.Claimed.Connector != "corp" || r.Claimed.UserID != "" {
		t.Errorf("refused for %s (%s), want %s", r.Reason, r.Detail, reason)
	}
	if len(r.Detail) > 600 {
		t.Errorf("the detail has %d bytes", len(r.Detail))
	}
	if strings.ContainsAny(r.Detail, "<>&\"\n\x00") {
		t.Errorf("the detail %q can be taken for something else", r.Detail)
	}
}

func TestSignIn(t *testing.T) {
	for _, algorithm := range []string{"RS256", "PS256", "ES256", "EdDSA"} {
		for _, lean := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s lean=%v", algorithm, lean), func(t *testing.T) {
				p := oidctest.Start(t)
				p.Set(func(k *oidctest.Knobs) { k.Algorithm, k.Lean = algorithm, lean })
				c := connector(t, p, nil)
				x, err := arrive(t, c, p, "alice")
				if err != nil {
					t.Fatal(err, detail(err))
				}
				if x.Attributes["email"][0] != "alice@acme.test" || x.Attributes["groups"][1] != "admins" {
					t.Errorf("attributes %v", x.Attributes)
				}
				for _, hidden := range []string{"nonce", "at_hash"} {
					if _, there := x.Attributes[hidden]; there {
						t.Errorf("the attributes have %s", hidden)
					}
				}
				x.Attributes = nil
				want := identity.External{
					Subject: "248289761001", Login: "alice", Name: "Alice Adams", Email: "alice@acme.test", EmailVerified: true,
					AvatarURL: "https://acme.test/alice.png",
					Groups:    []identity.Group{{ID: "platform", Path: "platform", Name: "platform"}, {ID: "admins", Path: "admins", Name: "admins"}},
				}
				if !reflect.DeepEqual(x, want) {
					t.Errorf("got  %+v\nwant %+v", x, want)
				}
				if n := p.Calls("/userinfo"); (n == 1) != lean {
					t.Errorf("userinfo was asked %d times", n)
				}
			})
		}
	}
}

func detail(err error) string {
	if r, ok := errors.AsType[*identity.Refusal](err); ok {
		return r.Detail
	}
	return ""
}

func TestRequest(t *testing.T) {
	p := oidctest.Start(t)
	c := connector(t, p, func(c *oidc.Config) {
		c.Scopes, c.Parameters = []string{"openid", "offline_access"}, map[string]string{"prompt": "consent", "domain_hint": "acme.test"}
	})
	f := newFlow()
	to, err := c.Begin(context.Background(), f)
	if err != nil {
		t.Fatal(err)
	}
	u, _ := url.Parse(to.URL)
	q := u.Query()
	for name, want := range map[string]string{
		"response_type": "code", "client_id": oidctest.ClientID, "redirect_uri": callback, "scope": "openid offline_access", "state": f.State,
		"nonce": f.Nonce, "code_challenge": oauth2.S256ChallengeFromVerifier(f.Verifier), "code_challenge_method": "S256",
		"prompt": "consent", "domain_hint": "acme.test",
	} {
		if q.Get(name) != want {
			t.Errorf("%s is %q, want %q", name, q.Get(name), want)
		}
	}
	if strings.Contains(to.URL, f.Verifier) || strings.Contains(to.URL, oidctest.ClientSecret) {
		t.Error("the browser gets to know a secret")
	}
	f.Fresh = true
	to, err = c.Begin(context.Background(), f)
	if err != nil || !strings.Contains(to.URL, "prompt=login") || !strings.Contains(to.URL, "max_age=0") {
		t.Errorf("a fresh sign-in goes to %s, %v", to.URL, err)
	}
	for name, change := range map[string]func(*identity.Flow){
		"state": func(f *identity.Flow) { f.State = "" }, "nonce": func(f *identity.Flow) { f.Nonce = "" },
		"verifier": func(f *identity.Flow) { f.Verifier = "" }, "callback": func(f *identity.Flow) { f.Callback = "" },
	} {
		f := newFlow()
		change(&f)
		if _, err := c.Begin(context.Background(), f); err == nil {
			t.Errorf("begun without a %s", name)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*oidc.Config)
		text   string
	}{
		"no name":           {func(c *oidc.Config) { c.Name = "" }, "name"},
		"name":              {func(c *oidc.Config) { c.Name = "saml:x" }, "name"},
		"no issuer":         {func(c *oidc.Config) { c.Issuer = "" }, "issuer is missing"},
		"http":              {func(c *oidc.Config) { c.Issuer = "http://idp.acme.test" }, "must begin with https://"},
		"relative":          {func(c *oidc.Config) { c.Issuer = "idp.acme.test" }, "is not a URL"},
		"query":             {func(c *oidc.Config) { c.Issuer = "https://idp.acme.test?a=b" }, "is not a URL"},
		"credentials":       {func(c *oidc.Config) { c.Issuer = "https://a:b@idp.acme.test" }, "is not a URL"},
		"template":          {func(c *oidc.Config) { c.Issuer = "https://login.microsoftonline.com/{tenantid}/v2.0" }, "many tenants"},
		"common":            {func(c *oidc.Config) { c.Issuer = "https://login.microsoftonline.com/common/v2.0" }, "many tenants"},
		"organizations":     {func(c *oidc.Config) { c.Issuer = "https://LOGIN.microsoftonline.com/Organizations/v2.0" }, "many tenants"},
		"no client":         {func(c *oidc.Config) { c.ClientID = "" }, "client ID"},
		"no openid":         {func(c *oidc.Config) { c.Scopes = []string{"email"} }, "openid"},
		"state":             {func(c *oidc.Config) { c.Parameters = map[string]string{"state": "fixed"} }, "state"},
		"redirect_uri":      {func(c *oidc.Config) { c.Parameters = map[string]string{"redirect_uri": "https://evil.test"} }, "redirect_uri"},
		"domain":            {func(c *oidc.Config) { c.AllowedDomains = []string{"@acme.test"} }, "is not a domain"},
		"domain of nothing": {func(c *oidc.Config) { c.AllowedDomains = []string{""} }, "is not a domain"},
	} {
		c := oidc.Config{Name: "corp", Issuer: "https://idp.acme.test", ClientID: "x"}
		if _, err := oidc.New(c); err != nil {
			t.Fatal(err)
		}
		test.change(&c)
		if _, err := oidc.New(c); err == nil || !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What a browser brings back must belong to its flow, and to this provider: OAU-01,
// OAU-03, OAU-38.
func TestCallback(t *testing.T) {
	p := oidctest.Start(t)
	c := connector(t, p, nil)
	for _, test := range []struct {
		name   string
		flow   func(*identity.Flow)
		values func(url.Values)
		reason string
		text   string
	}{
		{name: "no state", values: func(v url.Values) { v.Del("state") }, reason: "oauth_state"},
		{name: "other state", values: func(v url.Values) { v.Set("state", random()) }, reason: "oauth_state"},
		{name: "two states", values: func(v url.Values) { v.Add("state", random()) }, reason: "oauth_parameters"},
		{name: "flow without state", flow: func(f *identity.Flow) { f.State = "" }, values: func(v url.Values) { v.Del("state") }, reason: "oauth_state"},
		{name: "expired", flow: func(f *identity.Flow) { f.Expires = time.Now().Add(-time.Second) }, reason: "oauth_expired"},
		{name: "no code", values: func(v url.Values) { v.Del("code") }, reason: "oauth_parameters"},
		{name: "two codes", values: func(v url.Values) { v.Add("code", "x") }, reason: "oauth_parameters"},
		{name: "other code", values: func(v url.Values) { v.Set("code", "x") }, reason: "oauth_code"},
		{name: "other verifier", flow: func(f *identity.Flow) { f.Verifier = oauth2.GenerateVerifier() }, reason: "oauth_code"},
		{name: "other callback", flow: func(f *identity.Flow) { f.Callback += "2" }, reason: "oauth_code"},
		{name: "other nonce", flow: func(f *identity.Flow) { f.Nonce = random() }, reason: "oidc_nonce"},
		{name: "flow without nonce", flow: func(f *identity.Flow) { f.Nonce = "" }, reason: "oidc_nonce"},
		{name: "other issuer", values: func(v url.Values) { v.Set("iss", "https://other.test") }, reason: "oidc_issuer_parameter", text: "https://other.test"},
		{name: "empty issuer", values: func(v url.Values) { v.Set("iss", "") }, reason: "oidc_issuer_parameter"},
		{name: "no issuer", values: func(v url.Values) { v.Del("iss") }, reason: "oidc_issuer_parameter"},
		{name: "denied", values: func(v url.Values) { v.Del("code"); v.Set("error", "access_denied") }, reason: "oauth_denied"},
		{name: "error and code", values: func(v url.Values) { v.Set("error", "server_error") }, reason: "oauth_error"},
		{
			name: "script", reason: "oauth_error", text: "scriptalert(1)/script",
			values: func(v url.Values) {
				v.Set("error", "<b>")
				v.Set("error_description", "<script>alert(1)</script>\x1b[31m\u202e")
				v.Set("error_uri", "javascript:alert(1)")
			},
		},
		{name: "a long story", values: func(v url.Values) { v.Set("error", "x"); v.Set("error_description", strings.Repeat("long ", 1000)) }, reason: "oauth_error"},
		{name: "error of another", values: func(v url.Values) { v.Set("error", "access_denied"); v.Set("state", random()) }, reason: "oauth_state"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFlow()
			values := signIn(t, c, p, f, "alice")
			if test.flow != nil {
				test.flow(&f)
			}
			if test.values != nil {
				test.values(values)
			}
			x, err := c.Finish(context.Background(), f, identity.Response{Method: http.MethodGet, Values: values})
			refused(t, err, test.reason)
			if x.Subject != "" || !strings.Contains(detail(err), test.text) {
				t.Errorf("got %+v, %s", x, detail(err))
			}
		})
	}
}

func TestCodeOnce(t *testing.T) {
	p := oidctest.Start(t)
	c := connector(t, p, nil)
	f := newFlow()
	r := identity.Response{Method: http.MethodGet, Values: signIn(t, c, p, f, "alice")}
	if _, err := c.Finish(context.Background(), f, r); err != nil {
		t.Fatal(err)
	}
	_, err := c.Finish(context.Background(), f, r)
	refused(t, err, "oauth_code")
}

// A code of one provider, delivered to the callback of another: OAU-03.
func TestMixUp(t *testing.T) {
	honest, evil := oidctest.Start(t), oidctest.Start(t)
	atHonest, atEvil := connector(t, honest, nil), connector(t, evil, nil)
	f := newFlow()
	values := signIn(t, atHonest, honest, f, "alice")
	_, err := atEvil.Finish(context.Background(), f, identity.Response{Values: values})
	refused(t, err, "oidc_issuer_parameter")
	if evil.Calls("/token") != 0 {
		t.Error("the evil provider was given the code")
	}
}

func TestFresh(t *testing.T) {
	p := oidctest.Start(t)
	c := connector(t, p, nil)
	for name, test := range map[string]struct {
		claims func(map[string]any)
		reason string
		text   string
	}{
		"signed in again": {nil, "", ""},
		"not said":        {func(c map[string]any) { delete(c, "auth_time") }, "oidc_not_fresh", "does not say"},
		"long ago":        {func(c map[string]any) { c["auth_time"] = time.Now().Add(-time.Hour).Unix() }, "oidc_not_fresh", "did not ask"},
		"as text":         {func(c map[string]any) { c["auth_time"] = fmt.Sprint(time.Now().Unix()) }, "oidc_not_fresh", "does not say"},
	} {
		p.Set(func(k *oidctest.Knobs) { k.Claims = test.claims })
		f := newFlow()
		f.Fresh = true
		_, err := c.Finish(context.Background(), f, identity.Response{Values: signIn(t, c, p, f, "alice")})
		if test.reason != "" {
			refused(t, err, test.reason)
		} else if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !strings.Contains(detail(err), test.text) {
			t.Errorf("%s: %s", name, detail(err))
		}
	}
}

// A flow that lost its nonce is not satisfied by a token without one.
func TestNoNonce(t *testing.T) {
	p := oidctest.Start(t)
	p.Set(func(k *oidctest.Knobs) { k.Claims = func(c map[string]any) { delete(c, "nonce") } })
	c := connector(t, p, nil)
	f := newFlow()
	values := signIn(t, c, p, f, "alice")
	f.Nonce = ""
	_, err := c.Finish(context.Background(), f, identity.Response{Values: values})
	refused(t, err, "oidc_nonce")
}

// How the client shows its secret follows the provider's metadata, and the code is
// shown once.
func TestClientAuthentication(t *testing.T) {
	for name, test := range map[string]struct {
		methods any
		secret  string
		basic   bool
		reason  string
	}{
		"default": {nil, oidctest.ClientSecret, true, ""},
		"post":    {[]string{"client_secret_post"}, oidctest.ClientSecret, false, ""},
		"wrong":   {nil, "wrong-secret-55", true, "oauth_client"},
		"public":  {nil, "", false, "oauth_client"},
	} {
		t.Run(name, func(t *testing.T) {
			p := oidctest.Start(t)
			basic := false
			p.Set(func(k *oidctest.Knobs) {
				k.Instead = map[string]http.HandlerFunc{"/token": func(w http.ResponseWriter, r *http.Request) {
					_, _, basic = r.BasicAuth()
					p.Token(w, r)
				}}
				k.Discovery = func(m map[string]any) {
					if m["token_endpoint_auth_methods_supported"] = test.methods; test.methods == nil {
						delete(m, "token_endpoint_auth_methods_supported")
					}
				}
			})
			_, err := arrive(t, connector(t, p, func(c *oidc.Config) { c.ClientSecret = test.secret }), p, "alice")
			if test.reason != "" {
				refused(t, err, test.reason)
			} else if err != nil {
				t.Error(err)
			}
			if err != nil && strings.Contains(err.Error()+detail(err), "wrong-secret-55") {
				t.Errorf("the secret is in %v", err)
			}
			if basic != test.basic {
				t.Errorf("in the header: %v", basic)
			}
			if n := p.Calls("/token"); n != 1 {
				t.Errorf("the token endpoint was asked %d times", n)
			}
		})
	}
}
