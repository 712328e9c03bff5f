package github_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/identity/github"
	"github.com/ipuka/ipuka/identity/github/githubtest"
	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/outbound"
)

const callback = "https://ipuka.example/signin/with/github/callback"

func newFlow() identity.Flow {
	return identity.Flow{
		State: rand.Text() + rand.Text(), Nonce: rand.Text(), Verifier: rand.Text() + rand.Text(),
		Callback: callback, Expires: time.Now().Add(identity.FlowLife),
	}
}

// start returns a GitHub with ada, who is in acme (an administrator, in two teams), and
// waits to become a member of globex.
func start(t *testing.T) *githubtest.Server {
	s := githubtest.Start(t)
	s.SetUser(githubtest.User{ID: 101, Login: "ada", Name: "Ada L", Emails: []githubtest.Email{
		{Address: "ada@example.com", Primary: true, Verified: true}, {Address: "shown@example.com", Verified: true},
	}})
	s.SetOrganization(githubtest.Organization{ID: 9001, Login: "Acme",
		Members: map[string]githubtest.Membership{"ada": {Role: "admin"}},
		Teams: []githubtest.Team{
			{ID: 71, Slug: "platform", Name: "Platform", Members: []string{"ada"}},
			{ID: 72, Slug: "ops", Name: "Ops", Members: []string{"ada"}},
			{ID: 73, Slug: "others", Name: "Others"},
		}})
	s.SetOrganization(githubtest.Organization{ID: 9002, Login: "globex",
		Members: map[string]githubtest.Membership{"ada": {Role: "member", State: "pending"}},
		Teams:   []githubtest.Team{{ID: 74, Slug: "all", Name: "All", Members: []string{"ada"}}}})
	return s
}

func connect(t *testing.T, s *githubtest.Server, change func(*github.Config)) *github.Connector {
	t.Helper()
	config := github.Config{
		Name: "github", ClientID: s.ClientID, ClientSecret: s.ClientSecret, BaseURL: s.URL,
		Client: outbound.Client(outbound.Options{Private: true, Timeout: 2 * time.Second}),
	}
	if change != nil {
		change(&config)
	}
	c, err := github.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// begin sends a browser off and returns what it comes back with.
func begin(t *testing.T, s *githubtest.Server, c *github.Connector, f identity.Flow, login string) url.Values {
	t.Helper()
	to, err := c.Begin(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	return s.SignIn(t, to.URL, login)
}

func signIn(t *testing.T, s *githubtest.Server, c *github.Connector, login string) (identity.External, error) {
	t.Helper()
	f := newFlow()
	return c.Finish(t.Context(), f, identity.Response{Method: http.MethodGet, Values: begin(t, s, c, f, login)})
}

// reason returns why a sign-in was refused, "unavailable", or "" when it was not.
func reason(t *testing.T, err error) string {
	t.Helper()
	var refusal *identity.Refusal
	switch {
	case err == nil:
		return ""
	case errors.As(err, &refusal):
		if refusal.Detail == "" || refusal.Claimed.Connector != "github" {
			t.Errorf("refusal %+v without detail or connector", refusal)
		}
		return refusal.Reason
	case errors.Is(err, errs.Unavailable):
		return "unavailable"
	}
	t.Fatalf("error %v of no kind", err)
	return ""
}

func TestSignIn(t *testing.T) {
	s := start(t)
	x, err := signIn(t, s, connect(t, s, nil), "ada")
	if err != nil {
		t.Fatal(err)
	}
	groups := []identity.Group{
		{ID: "org:9001", Path: "Acme", Admin: true},
		{ID: "team:71", Path: "Acme/platform", Name: "Platform", Parent: "org:9001"},
		{ID: "team:72", Path: "Acme/ops", Name: "Ops", Parent: "org:9001"},
	}
	if !slices.Equal(x.Groups, groups) {
		t.Errorf("groups %+v, want %+v", x.Groups, groups)
	}
	if x.Subject != "101" || x.Login != "ada" || x.Name != "Ada L" || x.Email != "ada@example.com" || !x.EmailVerified ||
		x.AvatarURL != "https://avatars.example.com/u/101?v=4" || len(x.Credential) == 0 {
		t.Errorf("external %+v", x)
	}
	for name, values := range x.Attributes {
		for _, secret := range s.Secrets() {
			if strings.Contains(strings.Join(values, " "), secret) {
				t.Errorf("attribute %s has a secret in it", name)
			}
		}
	}
}

func TestBegin(t *testing.T) {
	s := start(t)
	c := connect(t, s, nil)
	f := newFlow()
	f.Fresh = true
	to, err := c.Begin(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(to.URL)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	for name, want := range map[string]string{
		"client_id": s.ClientID, "state": f.State, "redirect_uri": callback, "response_type": "code",
		"code_challenge_method": "S256", "scope": "read:user user:email read:org", "prompt": "select_account",
	} {
		if q.Get(name) != want {
			t.Errorf("%s=%q, want %q", name, q.Get(name), want)
		}
	}
	if strings.Contains(to.URL, f.Verifier) || strings.Contains(to.URL, s.ClientSecret) {
		t.Error("the URL has a secret in it")
	}
	if _, err := c.Begin(t.Context(), identity.Flow{State: "x"}); err == nil {
		t.Error("a flow without a verifier began")
	}
}

// TestAnswers is about what a browser may bring back: OAU-01, 02, 03 and 38.
func TestAnswers(t *testing.T) {
	const script = "<script>alert(1)</script>"
	for _, test := range []struct {
		name   string
		change func(f *identity.Flow, q url.Values)
		want   string
	}{
		{"right", func(*identity.Flow, url.Values) {}, ""},
		{"right, with the issuer", func(_ *identity.Flow, q url.Values) { q.Set("iss", "BASE/login/oauth") }, ""},
		{"OAU-01 no state", func(_ *identity.Flow, q url.Values) { q.Del("state") }, "oauth_response"},
		{"OAU-01 wrong state", func(_ *identity.Flow, q url.Values) { q.Set("state", "A"+q.Get("state")[1:]) }, "oauth_state"},
		{"OAU-01 state cut short", func(_ *identity.Flow, q url.Values) { q.Set("state", q.Get("state")[:20]) }, "oauth_state"},
		{"OAU-01 two states", func(_ *identity.Flow, q url.Values) { q.Add("state", q.Get("state")) }, "oauth_response"},
		{"OAU-01 expired", func(f *identity.Flow, _ url.Values) { f.Expires = time.Now().Add(-time.Second) }, "oauth_state"},
		{"OAU-01 no flow", func(f *identity.Flow, _ url.Values) { *f = identity.Flow{} }, "oauth_state"},
		{"OAU-02 another browser's flow", func(f *identity.Flow, _ url.Values) { *f = newFlow() }, "oauth_state"},
		{"OAU-02 another browser's verifier", func(f *identity.Flow, _ url.Values) { f.Verifier = newFlow().Verifier }, "oauth_code"},
		{"OAU-03 another issuer", func(_ *identity.Flow, q url.Values) { q.Set("iss", "https://evil.example") }, "oauth_issuer"},
		{"OAU-03 an empty issuer", func(_ *identity.Flow, q url.Values) { q.Set("iss", "") }, "oauth_issuer"},
		{"OAU-03 two issuers", func(_ *identity.Flow, q url.Values) { q["iss"] = []string{"BASE", "https://evil.example"} }, "oauth_response"},
		{"OAU-03 another issuer's error", func(_ *identity.Flow, q url.Values) {
			q.Set("iss", "https://evil.example")
			q.Set("error", "access_denied")
		}, "oauth_issuer"},
		{"OAU-38 refused", func(_ *identity.Flow, q url.Values) {
			q.Set("error", "access_denied")
			q.Set("error_description", script)
			q.Set("error_uri", "javascript:alert(1)")
		}, "oauth_denied"},
		{"OAU-38 markup as the code", func(_ *identity.Flow, q url.Values) { q.Set("error", script) }, "oauth_error"},
		{"OAU-38 a known error", func(_ *identity.Flow, q url.Values) {
			q.Set("error", "application_suspended")
			q.Set("error_description", script)
		}, "oauth_error"},
		{"OAU-38 an error without the state", func(_ *identity.Flow, q url.Values) {
			q.Set("error", "access_denied")
			q.Del("state")
		}, "oauth_response"},
		{"no code", func(_ *identity.Flow, q url.Values) { q.Del("code") }, "oauth_response"},
		{"two codes", func(_ *identity.Flow, q url.Values) { q.Add("code", "other") }, "oauth_response"},
		{"a code of 1 MB", func(_ *identity.Flow, q url.Values) { q.Set("code", strings.Repeat("a", 1<<20)) }, "oauth_response"},
		{"a wrong code", func(_ *identity.Flow, q url.Values) { q.Set("code", "wrong") }, "oauth_code"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := start(t)
			c := connect(t, s, nil)
			f := newFlow()
			q := begin(t, s, c, f, "ada")
			test.change(&f, q)
			for i, issuer := range q["iss"] {
				q["iss"][i] = strings.Replace(issuer, "BASE", s.URL, 1)
			}
			before := len(s.Calls())
			_, err := c.Finish(t.Context(), f, identity.Response{Method: http.MethodGet, Values: q})
			if got := reason(t, err); got != test.want {
				t.Fatalf("reason %q, want %q", got, test.want)
			}
			if test.want != "" && test.want != "oauth_code" && len(s.Calls()) != before {
				t.Error("GitHub was asked about an answer that is none")
			}
			if refusal := (*identity.Refusal)(nil); errors.As(err, &refusal) && strings.ContainsAny(refusal.Detail+err.Error(), "<>") {
				t.Errorf("the answer's text is passed on: %q, %q", err, refusal.Detail)
			}
		})
	}
}

// TestReusedCode is the rest of OAU-01 that a connector sees: the browser's back button.
func TestReusedCode(t *testing.T) {
	s := start(t)
	c := connect(t, s, nil)
	f := newFlow()
	r := identity.Response{Method: http.MethodGet, Values: begin(t, s, c, f, "ada")}
	if _, err := c.Finish(t.Context(), f, r); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Finish(t.Context(), f, r); reason(t, err) != "oauth_code" {
		t.Errorf("a code was used twice: %v", err)
	}
}

func TestDeclined(t *testing.T) {
	s := start(t)
	if _, err := signIn(t, s, connect(t, s, nil), ""); reason(t, err) != "oauth_denied" {
		t.Errorf("error %v, want oauth_denied", err)
	}
}

// TestExchange is about settings that an administrator has got wrong.
func TestExchange(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*github.Config)
		flow   func(*identity.Flow)
		detail string
	}{
		{"secret", func(c *github.Config) { c.ClientSecret = "wrong" }, nil, "incorrect_client_credentials: the client ID or the client secret is wrong"},
		{"callback", nil, func(f *identity.Flow) { f.Callback += "/other" }, "redirect_uri_mismatch: the callback URL"},
		{"verifier", nil, func(f *identity.Flow) { f.Verifier = newFlow().Verifier }, "bad_verification_code: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := start(t)
			c := connect(t, s, test.change)
			f := newFlow()
			q := begin(t, s, c, f, "ada")
			if test.flow != nil {
				test.flow(&f)
			}
			_, err := c.Finish(t.Context(), f, identity.Response{Method: http.MethodGet, Values: q})
			var refusal *identity.Refusal
			if !errors.As(err, &refusal) || refusal.Reason != "oauth_code" || !strings.HasPrefix(refusal.Detail, test.detail) {
				t.Errorf("error %+v, want oauth_code with detail %q", err, test.detail)
			}
		})
	}
}

// TestWho is about which accounts get in and what is believed of them.
func TestWho(t *testing.T) {
	verified := githubtest.Email{Address: "victim@example.com", Verified: true}
	for _, test := range []struct {
		name  string
		user  githubtest.User
		allow []string
		email string
		want  string
	}{
		{"OAU-11 unverified", githubtest.User{Emails: []githubtest.Email{{Address: "victim@example.com", Primary: true}}}, nil, "", ""},
		{"OAU-11 secondary", githubtest.User{Emails: []githubtest.Email{{Address: "mine@example.com", Primary: true}, verified}}, nil, "", ""},
		{"OAU-11 unverified secondary beside a good one", githubtest.User{Emails: []githubtest.Email{
			{Address: "mine@example.com", Primary: true, Verified: true}, {Address: "victim@example.com"}}}, nil, "mine@example.com", ""},
		{"no address", githubtest.User{}, nil, "", ""},
		{"suspended", githubtest.User{Suspended: true}, nil, "", "github_suspended"},
		{"a bot", githubtest.User{Type: "Bot"}, nil, "", "github_not_a_user"},
		{"a member", githubtest.User{}, []string{"nobody", "aCME"}, "", ""},
		{"no member", githubtest.User{}, []string{"initech"}, "", "github_not_a_member"},
		{"invited only", githubtest.User{}, []string{"globex"}, "", "github_not_a_member"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := start(t)
			test.user.ID, test.user.Login = 102, "ada"
			s.SetUser(test.user)
			x, err := signIn(t, s, connect(t, s, func(c *github.Config) { c.Organizations = test.allow }), "ada")
			if got := reason(t, err); got != test.want {
				t.Fatalf("reason %q, want %q", got, test.want)
			}
			if err == nil && (x.Subject != "102" || x.Email != test.email || x.EmailVerified != (test.email != "")) {
				t.Errorf("external %+v, want the address %q", x, test.email)
			}
		})
	}
}

func TestPages(t *testing.T) {
	s := start(t)
	s.PageSize = 7
	members := map[string]githubtest.Membership{"ada": {Role: "member"}}
	for i := range int64(45) {
		s.SetOrganization(githubtest.Organization{ID: 100 + i, Login: fmt.Sprint("org-", i), Members: members,
			Teams: []githubtest.Team{{ID: 500 + i, Slug: "all", Name: "All", Members: []string{"ada"}}}})
	}
	x, err := signIn(t, s, connect(t, s, nil), "ada")
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for _, g := range x.Groups {
		ids[g.ID] = true
	}
	if len(ids) != 46+47 || len(x.Groups) != len(ids) {
		t.Errorf("%d groups of %d IDs, want %d", len(x.Groups), len(ids), 46+47)
	}
	s.PageSize = 100
	for i := range int64(600) {
		s.SetOrganization(githubtest.Organization{ID: 10_000 + i, Login: fmt.Sprint("more-", i), Members: members})
	}
	if x, err = signIn(t, s, connect(t, s, nil), "ada"); err != nil || len(x.Groups) != 500 {
		t.Errorf("%d groups, error %v; want 500", len(x.Groups), err)
	}
}

// TestFaults is OAU-10 and SEC-07: a GitHub that is down, slow, huge, or sends the token elsewhere.
func TestFaults(t *testing.T) {
	stolen := make(chan string, 100)
	thief := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		stolen <- fmt.Sprint(r.URL.Path, r.Header.Get("Authorization"), string(body))
	}))
	t.Cleanup(thief.Close)
	status := func(code int, headers ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i < len(headers); i += 2 {
				w.Header().Set(headers[i], headers[i+1])
			}
			w.WriteHeader(code)
			fmt.Fprint(w, `{"message":"no"}`)
		}
	}
	faults := map[string]http.HandlerFunc{
		"502":           status(502),
		"429":           status(429, "Retry-After", "60"),
		"rate limit":    status(403, "X-RateLimit-Remaining", "0", "X-RateLimit-Limit", "5000", "X-RateLimit-Reset", fmt.Sprint(time.Now().Add(time.Hour).Unix())),
		"OAU-10 slow":   slow,
		"OAU-10 1 GB":   huge,
		"OAU-10 302":    status(302, "Location", thief.URL+"/stolen"),
		"SEC-07 307":    status(307, "Location", thief.URL+"/stolen"),
		"no JSON":       func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>welcome") },
		"not HTTP":      func(w http.ResponseWriter, _ *http.Request) { hijack(w) },
		"empty account": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "{}") },
		"secondary limit": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(403)
			fmt.Fprint(w, `{"message":"slow down","documentation_url":"https://docs.github.com/rest/overview/rate-limits#abuse-rate-limits"}`)
		},
	}
	paths := []string{"/login/oauth/access_token", "/api/v3/user", "/api/v3/user/emails", "/api/v3/user/memberships/orgs", "/api/v3/user/teams"}
	for name, fault := range faults {
		for _, path := range paths {
			if name == "empty account" && path != "/api/v3/user" || strings.Contains(name, "limit") && path == paths[0] {
				continue
			}
			if name == "OAU-10 slow" && path != paths[0] && path != paths[4] {
				continue // the clock runs for these
			}
			t.Run(name+path, func(t *testing.T) {
				t.Parallel()
				s := start(t)
				c := connect(t, s, func(c *github.Config) {
					c.Client = outbound.Client(outbound.Options{Private: true, Timeout: 300 * time.Millisecond})
					if strings.Contains(name, "30") {
						c.Client = &http.Client{Timeout: time.Second} // would follow
					}
				})
				s.SetFault(func(w http.ResponseWriter, r *http.Request) bool {
					if r.URL.Path == path {
						fault(w, r)
					}
					return r.URL.Path == path
				})
				if _, err := signIn(t, s, c, "ada"); reason(t, err) != "unavailable" {
					t.Errorf("error %v, want unavailable", err)
				}
			})
		}
	}
	t.Cleanup(func() {
		select {
		case request := <-stolen:
			t.Errorf("a redirect was followed: %s", request)
		default:
		}
	})
}

// slow never answers. The server notices that a client has gone once the body is read.
func slow(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

func huge(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprint(w, `{"message":"`)
	block := []byte(strings.Repeat("a", 1<<20))
	for range 1 << 10 {
		if _, err := w.Write(block); err != nil {
			return
		}
	}
}

func hijack(w http.ResponseWriter) {
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		fmt.Fprint(conn, "what?\r\n\r\n")
		_ = conn.Close()
	}
}

func TestProbe(t *testing.T) {
	for _, test := range []struct {
		name  string
		fault http.HandlerFunc
		up    bool
	}{
		{"up", nil, true},
		{"private mode", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) }, true},
		{"rate limit", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(429) }, true},
		{"down", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }, false},
		{"moved", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Location", "/"); w.WriteHeader(301) }, false},
		{"something else", func(w http.ResponseWriter, _ *http.Request) { w.Header().Del("X-GitHub-Request-Id") }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := start(t)
			if test.fault != nil {
				s.SetFault(func(w http.ResponseWriter, r *http.Request) bool { test.fault(w, r); return true })
			}
			err := connect(t, s, nil).Probe(t.Context())
			if (err == nil) != test.up || err != nil && !errors.Is(err, errs.Unavailable) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestNew(t *testing.T) {
	client := outbound.Client(outbound.Options{})
	for _, test := range []struct {
		name   string
		change func(*github.Config)
		want   string
	}{
		{"github.com", func(c *github.Config) { c.BaseURL = "" }, ""},
		{"a path", func(c *github.Config) { c.BaseURL = "https://example.com/git/" }, ""},
		{"no name", func(c *github.Config) { c.Name = "" }, "is no name"},
		{"upper case", func(c *github.Config) { c.Name = "GitHub" }, "is no name"},
		{"SAML's name", func(c *github.Config) { c.Name = "saml:1" }, "is no name"},
		{"the password connector's name", func(c *github.Config) { c.Name = "email" }, "is no name"},
		{"no client ID", func(c *github.Config) { c.ClientID = "" }, "client ID is missing"},
		{"no secret", func(c *github.Config) { c.ClientSecret = "" }, "client secret is missing"},
		{"a line break", func(c *github.Config) { c.ClientSecret += "\n" }, "line break"},
		{"http", func(c *github.Config) { c.BaseURL = "http://github.example.com" }, "https://"},
		{"no URL", func(c *github.Config) { c.BaseURL = "github.example.com" }, "is not a URL"},
		{"a password", func(c *github.Config) { c.BaseURL = "https://me:canary@github.example.com" }, "password"},
		{"a query", func(c *github.Config) { c.BaseURL = "https://github.example.com/?a=b" }, "end with the path"},
		{"an organization's URL", func(c *github.Config) { c.Organizations = []string{"https://github.com/acme"} }, "no login of an organization"},
		{"no client", func(c *github.Config) { c.Client = nil }, "HTTP client"},
	} {
		t.Run(test.name, func(t *testing.T) {
			config := github.Config{Name: "github", ClientID: "id", ClientSecret: "canary", BaseURL: "https://github.example.com", Client: client}
			test.change(&config)
			_, err := github.New(config)
			if (err == nil) != (test.want == "") || err != nil && (!strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "canary")) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

// TestCanary is OAU-39 for the connector: a GitHub that repeats every secret that it
// was told, in every way that ends up in an error.
func TestCanary(t *testing.T) {
	echoes := map[string]func(http.ResponseWriter, string){
		"message": func(w http.ResponseWriter, secret string) {
			w.WriteHeader(422)
			fmt.Fprintf(w, `{"message":%q,"error":%[1]q,"error_description":%[1]q,"errors":[{"message":%[1]q}]}`, secret)
		},
		"no JSON": func(w http.ResponseWriter, secret string) { w.WriteHeader(500); fmt.Fprint(w, secret) },
		"location": func(w http.ResponseWriter, secret string) {
			w.Header().Set("Location", "https://evil.example/?"+url.QueryEscape(secret))
			w.WriteHeader(302)
		},
		"status line": func(w http.ResponseWriter, secret string) {
			if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
				fmt.Fprintf(conn, "%s\r\n\r\n", strings.ReplaceAll(secret, " ", ""))
				_ = conn.Close()
			}
		},
	}
	for _, path := range []string{"/login/oauth/access_token", "/api/v3/user", "/api/v3/user/teams"} {
		for name, echo := range echoes {
			t.Run(name+path, func(t *testing.T) {
				s := start(t)
				c := connect(t, s, nil)
				f := newFlow()
				q := begin(t, s, c, f, "ada")
				secrets := []string{s.ClientSecret, q.Get("code"), f.Verifier}
				s.SetFault(func(w http.ResponseWriter, r *http.Request) bool {
					if r.URL.Path != path {
						return false
					}
					_ = r.ParseForm()
					told := slices.Concat(slices.Collect(maps.Values(r.PostForm))...)
					if path != "/login/oauth/access_token" {
						told = []string{strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")}
					}
					echo(w, strings.Join(told, " "))
					return true
				})
				_, err := c.Finish(t.Context(), f, identity.Response{Method: http.MethodGet, Values: q})
				if err == nil {
					t.Fatal("no error")
				}
				text := fmt.Sprintf("%v %+v %#v", err, err, err)
				if refusal := (*identity.Refusal)(nil); errors.As(err, &refusal) {
					text += refusal.Detail
				}
				for _, secret := range append(secrets, s.Secrets()...) {
					if strings.Contains(text, secret) {
						t.Errorf("the secret %s is in the error %s", secret, text)
					}
				}
			})
		}
	}
}
