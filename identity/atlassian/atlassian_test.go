package atlassian_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/identity/atlassian"
	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/outbound"
)

const callback = "https://ipuka.example/signin/with/it/callback"

func newFlow() identity.Flow {
	return identity.Flow{
		State: rand.Text() + rand.Text(), Nonce: rand.Text(), Verifier: rand.Text() + rand.Text(),
		Callback: callback, Expires: time.Now().Add(identity.FlowLife),
	}
}

type constructor func(atlassian.Config) (*atlassian.Connector, error)

// both runs a test with either provider and the paths of its calls.
func both(t *testing.T, test func(t *testing.T, s *fake, open constructor, paths []string)) {
	t.Run("atlassian", func(t *testing.T) { test(t, start(t), atlassian.New, []string{"/oauth/token", "/me"}) })
	t.Run("bitbucket", func(t *testing.T) {
		test(t, startBitbucket(t), atlassian.NewBitbucket,
			[]string{"/site/oauth2/access_token", "/2.0/user", "/2.0/user/emails", "/2.0/user/workspaces"})
	})
}

func connect(t *testing.T, s *fake, open constructor) *atlassian.Connector {
	t.Helper()
	c, err := open(atlassian.Config{
		Name: "it", ClientID: s.ClientID, ClientSecret: s.ClientSecret, AuthURL: s.URL, APIURL: s.URL,
		Client: outbound.Client(outbound.Options{Private: true, Timeout: time.Second}),
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func begin(t *testing.T, s *fake, c *atlassian.Connector, f identity.Flow) url.Values {
	t.Helper()
	to, err := c.Begin(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	return s.SignIn(t, to.URL, "ada")
}

func signIn(t *testing.T, s *fake, c *atlassian.Connector) (identity.External, error) {
	t.Helper()
	f := newFlow()
	return c.Finish(t.Context(), f, identity.Response{Method: http.MethodGet, Values: begin(t, s, c, f)})
}

// reason returns why a sign-in was refused, "unavailable", or "" when it was not.
func reason(t *testing.T, err error) string {
	t.Helper()
	var refusal *identity.Refusal
	switch {
	case err == nil:
		return ""
	case errors.As(err, &refusal):
		if refusal.Detail == "" || refusal.Claimed.Connector != "it" {
			t.Errorf("refusal %+v without detail or connector", refusal)
		}
		return refusal.Reason
	case errors.Is(err, errs.Unavailable):
		return "unavailable"
	}
	t.Fatalf("error %v of no kind", err)
	return ""
}

func TestAtlassian(t *testing.T) {
	s := start(t)
	c := connect(t, s, atlassian.New)
	if got := c.Info(); got.Kind != identity.KindAtlassian || got.Title != "Atlassian" {
		t.Errorf("info %+v", got)
	}
	x, err := signIn(t, s, c)
	if err != nil {
		t.Fatal(err)
	}
	if x.Subject != "557058:0a1b" || x.Login != "ada" || x.Name != "Ada L" || x.Email != "ada@example.com" || !x.EmailVerified ||
		x.AvatarURL != "https://avatars.example.com/ada" || x.Groups != nil {
		t.Errorf("external %+v", x)
	}
}

func TestBitbucket(t *testing.T) {
	s := startBitbucket(t)
	s.pageSize = 1
	c := connect(t, s, atlassian.NewBitbucket)
	if got := c.Info(); got.Kind != identity.KindBitbucket || got.Title != "Bitbucket" {
		t.Errorf("info %+v", got)
	}
	x, err := signIn(t, s, c)
	if err != nil {
		t.Fatal(err)
	}
	groups := []identity.Group{{ID: "workspace:{1}", Path: "space-1", Admin: true}, {ID: "workspace:{2}", Path: "space-2"}}
	if x.Subject != "{0a1b2c3d-0000-4000-8000-000000000001}" || x.Login != "ada" || x.Name != "Ada L" || x.Email != "ada@example.com" ||
		!x.EmailVerified || x.AvatarURL != "https://avatars.example.com/ada" || !slices.Equal(x.Groups, groups) {
		t.Errorf("external %+v", x)
	}
}

func TestBegin(t *testing.T) {
	s := start(t)
	f := newFlow()
	to, err := connect(t, s, atlassian.New).Begin(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(to.URL)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"client_id": s.ClientID, "state": f.State, "redirect_uri": callback, "response_type": "code", "code_challenge_method": "S256",
		"scope": "read:me offline_access", "audience": "api.atlassian.com", "prompt": "consent",
	} {
		if got := u.Query().Get(name); got != want {
			t.Errorf("%s=%q, want %q", name, got, want)
		}
	}
}

// TestAnswers is about what a browser may bring back; package authcode judges it, and
// the connector for GitHub has all the cases.
func TestAnswers(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(f *identity.Flow, q url.Values)
		want   string
	}{
		{"OAU-01 no state", func(_ *identity.Flow, q url.Values) { q.Del("state") }, "oauth_response"},
		{"OAU-01 wrong state", func(_ *identity.Flow, q url.Values) { q.Set("state", "A"+q.Get("state")[1:]) }, "oauth_state"},
		{"OAU-02 another browser's flow", func(f *identity.Flow, _ url.Values) { *f = newFlow() }, "oauth_state"},
		{"OAU-02 another browser's verifier", func(f *identity.Flow, _ url.Values) { f.Verifier = newFlow().Verifier }, "oauth_code"},
		{"OAU-03 another issuer", func(_ *identity.Flow, q url.Values) { q.Set("iss", "https://evil.example") }, "oauth_issuer"},
		{"OAU-38 an error", func(_ *identity.Flow, q url.Values) { q.Set("error", "access_denied") }, "oauth_denied"},
	} {
		t.Run(test.name, func(t *testing.T) {
			both(t, func(t *testing.T, s *fake, open constructor, _ []string) {
				c := connect(t, s, open)
				f := newFlow()
				q := begin(t, s, c, f)
				test.change(&f, q)
				_, err := c.Finish(t.Context(), f, identity.Response{Method: http.MethodGet, Values: q})
				if got := reason(t, err); got != test.want {
					t.Fatalf("reason %q, want %q", got, test.want)
				}
			})
		})
	}
}

// TestVerified is OAU-13: only the boolean true vouches for an address.
func TestVerified(t *testing.T) {
	for _, test := range []struct {
		value any
		want  bool
	}{{true, true}, {false, false}, {"true", false}, {1, false}, {nil, false}, {"", false}, {[]any{true}, false}} {
		t.Run(fmt.Sprintf("%#v", test.value), func(t *testing.T) {
			s := start(t)
			s.me["email_verified"] = test.value
			x, err := signIn(t, s, connect(t, s, atlassian.New))
			if err != nil || x.EmailVerified != test.want {
				t.Errorf("verified %v, error %v; want %v", x.EmailVerified, err, test.want)
			}
			b := startBitbucket(t)
			b.emails = []any{email("victim@example.com", true, test.value), email("victim@example.com", test.value, true), email("victim@example.com", false, true)}
			x, err = signIn(t, b, connect(t, b, atlassian.NewBitbucket))
			if err != nil || x.EmailVerified != test.want || (x.Email != "") != test.want {
				t.Errorf("Bitbucket: %q, verified %v, error %v; want %v", x.Email, x.EmailVerified, err, test.want)
			}
		})
	}
	s := start(t)
	delete(s.me, "email_verified")
	if x, err := signIn(t, s, connect(t, s, atlassian.New)); err != nil || x.EmailVerified {
		t.Errorf("missing: %+v, %v", x, err)
	}
}

func TestWho(t *testing.T) {
	for _, test := range []struct {
		name, member string
		value        any
		want         string
	}{
		{"inactive", "account_status", "inactive", "atlassian_not_active"},
		{"closed", "account_status", "closed", "atlassian_not_active"},
		{"no ID", "account_id", "", "unavailable"},
		{"a customer", "account_type", "customer", "atlassian_not_a_user"},
		{"an ID of another type", "account_id", 7, "unavailable"},
		{"a picture that is a script", "picture", "javascript:alert(1)", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := start(t)
			s.me[test.member] = test.value
			x, err := signIn(t, s, connect(t, s, atlassian.New))
			if got := reason(t, err); got != test.want || test.member == "picture" && x.AvatarURL != "" {
				t.Errorf("reason %q, want %q; %+v", got, test.want, x)
			}
		})
	}
	for _, test := range []struct {
		name, member string
		value        any
		want         string
	}{
		{"closed", "account_status", "closed", "atlassian_not_active"},
		{"no ID", "uuid", "", "unavailable"},
		{"an application", "type", "app_user", "atlassian_not_a_user"},
	} {
		t.Run("bitbucket "+test.name, func(t *testing.T) {
			s := startBitbucket(t)
			s.user[test.member] = test.value
			_, err := signIn(t, s, connect(t, s, atlassian.NewBitbucket))
			if got := reason(t, err); got != test.want {
				t.Errorf("reason %q, want %q", got, test.want)
			}
		})
	}
}

func TestPages(t *testing.T) {
	s := startBitbucket(t)
	s.spaces = nil
	for i := range 620 {
		s.spaces = append(s.spaces, workspace(i, false))
	}
	x, err := signIn(t, s, connect(t, s, atlassian.NewBitbucket))
	if err != nil || len(x.Groups) != 500 {
		t.Errorf("%d groups, error %v; want 500", len(x.Groups), err)
	}
	thief := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("the token went elsewhere: %s", r.Header.Get("Authorization"))
	}))
	t.Cleanup(thief.Close)
	for name, next := range map[string]string{
		"SEC-07 another host":   thief.URL + "/2.0/user/workspaces?page=2",
		"SEC-07 another path":   "SELF/2.0/other?page=2",
		"SEC-07 a longer host":  "SELF@" + strings.TrimPrefix(thief.URL, "http://") + "/2.0/user/workspaces?page=2",
		"the same page forever": "SELF/2.0/user/workspaces?pagelen=100",
	} {
		t.Run(name, func(t *testing.T) {
			s := startBitbucket(t)
			s.pageSize = 1
			s.emails = s.emails[1:] // a single page
			s.next = strings.Replace(next, "SELF", s.URL, 1)
			if _, err := signIn(t, s, connect(t, s, atlassian.NewBitbucket)); reason(t, err) != "unavailable" {
				t.Errorf("error %v, want unavailable", err)
			}
		})
	}
}

// TestFaults is OAU-10, SEC-07 and OAU-39: a provider that is down, huge, sends the
// token elsewhere, or repeats it.
func TestFaults(t *testing.T) {
	stolen := make(chan string, 100)
	thief := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { stolen <- r.URL.Path }))
	t.Cleanup(thief.Close)
	faults := map[string]func(http.ResponseWriter, string){
		"502":         func(w http.ResponseWriter, told string) { w.WriteHeader(502); fmt.Fprint(w, told) },
		"429":         func(w http.ResponseWriter, told string) { w.WriteHeader(429); fmt.Fprint(w, told) },
		"410":         func(w http.ResponseWriter, told string) { w.WriteHeader(410); fmt.Fprint(w, told) },
		"OAU-10 307":  func(w http.ResponseWriter, _ string) { w.Header().Set("Location", thief.URL); w.WriteHeader(307) },
		"no JSON":     func(w http.ResponseWriter, told string) { fmt.Fprint(w, told) },
		"OAU-10 1 GB": huge,
		"status line": func(w http.ResponseWriter, told string) {
			if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
				fmt.Fprintf(conn, "%s\r\n\r\n", told)
				_ = conn.Close()
			}
		},
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			both(t, func(t *testing.T, s *fake, open constructor, paths []string) {
				for i, path := range paths {
					if name == "410" && i == 0 {
						continue // a client error of the token endpoint is a refusal
					}
					c := connect(t, s, open)
					f := newFlow()
					q := begin(t, s, c, f)
					s.SetFault(func(w http.ResponseWriter, r *http.Request) bool {
						if r.URL.Path == path {
							_ = r.ParseForm()
							fault(w, strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")+r.PostForm.Get("client_secret")+r.PostForm.Get("code"))
						}
						return r.URL.Path == path
					})
					_, err := c.Finish(t.Context(), f, identity.Response{Method: http.MethodGet, Values: q})
					s.SetFault(nil)
					if reason(t, err) != "unavailable" {
						t.Errorf("%s: error %v, want unavailable", path, err)
					}
					for _, secret := range append(s.Secrets(), q.Get("code"), f.Verifier) {
						if strings.Contains(fmt.Sprintf("%v %+v", err, err), secret) {
							t.Errorf("%s: the secret %s is in the error %v", path, secret, err)
						}
					}
				}
			})
		})
	}
	select {
	case request := <-stolen:
		t.Errorf("a redirect was followed: %s", request)
	default:
	}
}

func huge(w http.ResponseWriter, _ string) {
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprint(w, `{"uuid":"`)
	block := []byte(strings.Repeat("a", 1<<20))
	for range 1 << 10 {
		if _, err := w.Write(block); err != nil {
			return
		}
	}
}

func TestRecheck(t *testing.T) {
	both(t, func(t *testing.T, s *fake, open constructor, paths []string) {
		c := connect(t, s, open)
		s.TokenLife = 30 * time.Second // too short to be used without renewing it
		x, err := signIn(t, s, c)
		if err != nil {
			t.Fatal(err)
		}
		next, err := c.Recheck(t.Context(), x.Subject, x.Credential)
		if err != nil || next.Subject != x.Subject || string(next.Credential) == string(x.Credential) {
			t.Fatalf("%+v, error %v", next, err)
		}
		for status, want := range map[int]error{401: identity.ErrWithdrawn, 403: errs.Unavailable, 404: errs.Unavailable, 503: errs.Unavailable} {
			s.SetFault(func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path == paths[1] {
					w.WriteHeader(status)
				}
				return r.URL.Path == paths[1]
			})
			half, err := c.Recheck(t.Context(), x.Subject, next.Credential)
			if !errors.Is(err, want) || errors.Is(err, errs.Unavailable) && len(half.Credential) == 0 {
				t.Errorf("status %d: %+v, error %v, want %v", status, half, err, want)
			}
			s.SetFault(nil)
			if next, err = signIn(t, s, c); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := c.Recheck(t.Context(), "somebody else", next.Credential); !errors.Is(err, identity.ErrWithdrawn) {
			t.Errorf("another account: %v", err)
		}
		if next, err = signIn(t, s, c); err != nil {
			t.Fatal(err)
		}
		s.Revoke("ada")
		if _, err := c.Recheck(t.Context(), x.Subject, next.Credential); !errors.Is(err, identity.ErrWithdrawn) {
			t.Errorf("revoked: %v", err)
		}
	})
}

func TestProbe(t *testing.T) {
	both(t, func(t *testing.T, s *fake, open constructor, _ []string) {
		c := connect(t, s, open)
		if err := c.Probe(t.Context()); err != nil {
			t.Error(err)
		}
		s.SetFault(func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(502); return true })
		if err := c.Probe(t.Context()); !errors.Is(err, errs.Unavailable) {
			t.Errorf("error %v", err)
		}
	})
}

func TestNew(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*atlassian.Config)
		want   string
	}{
		{"as it should be", func(*atlassian.Config) {}, ""},
		{"no name", func(c *atlassian.Config) { c.Name = "" }, "is no name"},
		{"no client ID", func(c *atlassian.Config) { c.ClientID = "" }, "client ID is missing"},
		{"no secret", func(c *atlassian.Config) { c.ClientSecret = "" }, "client secret is missing"},
		{"http", func(c *atlassian.Config) { c.APIURL = "http://api.example.com" }, "https://"},
		{"no client", func(c *atlassian.Config) { c.Client = nil }, "HTTP client"},
	} {
		for _, open := range []constructor{atlassian.New, atlassian.NewBitbucket} {
			config := atlassian.Config{Name: "it", ClientID: "id", ClientSecret: "canary", Client: outbound.Client(outbound.Options{})}
			test.change(&config)
			_, err := open(config)
			if (err == nil) != (test.want == "") || err != nil && (!strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "canary")) {
				t.Errorf("%s: error %v, want %q", test.name, err, test.want)
			}
		}
	}
}
