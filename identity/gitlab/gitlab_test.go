package gitlab_test

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
	"github.com/ipuka/ipuka/identity/gitlab"
	"github.com/ipuka/ipuka/identity/gitlab/gitlabtest"
	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/outbound"
)

const callback = "https://ipuka.example/signin/with/gitlab/callback"

func newFlow() identity.Flow {
	return identity.Flow{
		State: rand.Text() + rand.Text(), Nonce: rand.Text(), Verifier: rand.Text() + rand.Text(),
		Callback: callback, Expires: time.Now().Add(identity.FlowLife),
	}
}

// start returns a GitLab with ada, who owns acme and all below it, is a guest of
// globex, and is in initech/labs/robots without being in the groups above.
func start(t *testing.T) *gitlabtest.Server {
	s := gitlabtest.Start(t)
	s.SetUser(gitlabtest.User{ID: 101, Username: "ada", Name: "Ada L", Email: "ada@example.com", Confirmed: true})
	for _, g := range []gitlabtest.Group{
		{ID: 1, Path: "acme", Name: "Acme", Members: map[string]int{"ada": 50}},
		{ID: 2, Path: "acme/platform", Name: "Platform", Parent: 1},
		{ID: 3, Path: "acme/platform/kernel", Name: "Kernel", Parent: 2},
		{ID: 4, Path: "globex", Name: "Globex", Members: map[string]int{"ada": 10}},
		{ID: 5, Path: "initech", Name: "Initech"},
		{ID: 6, Path: "initech/labs", Name: "Labs", Parent: 5},
		{ID: 7, Path: "initech/labs/robots", Name: "Robots", Parent: 6, Members: map[string]int{"ada": 50}},
		{ID: 8, Path: "public", Name: "Public", Members: map[string]int{"ada": 5}},
	} {
		s.SetGroup(g)
	}
	return s
}

func connect(t *testing.T, s *gitlabtest.Server, change func(*gitlab.Config)) *gitlab.Connector {
	t.Helper()
	config := gitlab.Config{
		Name: "gitlab", ClientID: s.ClientID, ClientSecret: s.ClientSecret, BaseURL: s.URL,
		Client: outbound.Client(outbound.Options{Private: true, Timeout: 2 * time.Second}),
	}
	if change != nil {
		change(&config)
	}
	c, err := gitlab.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// begin sends a browser off and returns what it comes back with.
func begin(t *testing.T, s *gitlabtest.Server, c *gitlab.Connector, f identity.Flow, login string) url.Values {
	t.Helper()
	to, err := c.Begin(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	return s.SignIn(t, to.URL, login)
}

func signIn(t *testing.T, s *gitlabtest.Server, c *gitlab.Connector, login string) (identity.External, error) {
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
		if refusal.Detail == "" || refusal.Claimed.Connector == "" {
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
		{ID: "group:1", Path: "acme", Name: "Acme", Admin: true},
		{ID: "group:2", Path: "acme/platform", Name: "Platform", Parent: "group:1"},
		{ID: "group:3", Path: "acme/platform/kernel", Name: "Kernel", Parent: "group:1"},
		{ID: "group:4", Path: "globex", Name: "Globex"},
		{ID: "group:7", Path: "initech/labs/robots", Name: "Robots", Parent: "group:6"},
	}
	if !slices.Equal(x.Groups, groups) {
		t.Errorf("groups %+v, want %+v", x.Groups, groups)
	}
	if x.Subject != "101" || x.Login != "ada" || x.Name != "Ada L" || x.Email != "ada@example.com" || !x.EmailVerified ||
		x.AvatarURL != "https://avatars.example.com/ada" || len(x.Credential) == 0 {
		t.Errorf("external %+v", x)
	}
}

// TestRateHeaders: the library would read them and wait for minutes.
func TestRateHeaders(t *testing.T) {
	s := start(t)
	s.SetFault(func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("RateLimit-Limit", "1")
		return false
	})
	if _, err := signIn(t, s, connect(t, s, nil), "ada"); err != nil {
		t.Error(err)
	}
}

func TestBegin(t *testing.T) {
	s := start(t)
	f := newFlow()
	f.Fresh = true
	to, err := connect(t, s, nil).Begin(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(to.URL)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"client_id": s.ClientID, "state": f.State, "redirect_uri": callback, "response_type": "code",
		"code_challenge_method": "S256", "scope": "read_user read_api", "prompt": "login",
	} {
		if got := u.Query().Get(name); got != want {
			t.Errorf("%s=%q, want %q", name, got, want)
		}
	}
	if u.Query().Get("code_challenge") == f.Verifier || strings.Contains(to.URL, s.ClientSecret) {
		t.Error("the URL has a secret in it")
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
		{"right, with the issuer", func(_ *identity.Flow, q url.Values) { q.Set("iss", "BASE") }, ""},
		{"OAU-01 no state", func(_ *identity.Flow, q url.Values) { q.Del("state") }, "oauth_response"},
		{"OAU-01 wrong state", func(_ *identity.Flow, q url.Values) { q.Set("state", "A"+q.Get("state")[1:]) }, "oauth_state"},
		{"OAU-01 expired", func(f *identity.Flow, _ url.Values) { f.Expires = time.Now().Add(-time.Second) }, "oauth_state"},
		{"OAU-02 another browser's flow", func(f *identity.Flow, _ url.Values) { *f = newFlow() }, "oauth_state"},
		{"OAU-02 another browser's verifier", func(f *identity.Flow, _ url.Values) { f.Verifier = newFlow().Verifier }, "oauth_code"},
		{"OAU-03 another issuer", func(_ *identity.Flow, q url.Values) { q.Set("iss", "https://gitlab.com") }, "oauth_issuer"},
		{"OAU-38 an error", func(_ *identity.Flow, q url.Values) {
			q.Set("error", "access_denied")
			q.Set("error_description", "<script>")
		}, "oauth_denied"},
		{"another callback", func(f *identity.Flow, _ url.Values) { f.Callback += "/other" }, "oauth_code"},
		{"two codes", func(_ *identity.Flow, q url.Values) { q.Add("code", "other") }, "oauth_response"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := start(t)
			c := connect(t, s, nil)
			f := newFlow()
			q := begin(t, s, c, f, "ada")
			test.change(&f, q)
			if q.Get("iss") == "BASE" {
				q.Set("iss", s.URL)
			}
			_, err := c.Finish(t.Context(), f, identity.Response{Method: http.MethodGet, Values: q})
			if got := reason(t, err); got != test.want {
				t.Fatalf("reason %q, want %q", got, test.want)
			}
		})
	}
}

func TestWrongSecret(t *testing.T) {
	s := start(t)
	_, err := signIn(t, s, connect(t, s, func(c *gitlab.Config) { c.ClientSecret = "wrong" }), "ada")
	var refusal *identity.Refusal
	if !errors.As(err, &refusal) || refusal.Reason != "oauth_code" || !strings.HasPrefix(refusal.Detail, "invalid_client: ") {
		t.Errorf("error %+v", err)
	}
}

// TestTwo is OAU-12 and OAU-03: one GitLab's accounts and codes are nothing at another.
func TestTwo(t *testing.T) {
	a, b := start(t), start(t)
	b.ClientID, b.ClientSecret = a.ClientID, a.ClientSecret
	ca, cb := connect(t, a, nil), connect(t, b, func(c *gitlab.Config) { c.Name = "gitlab-b" })
	xa, err := signIn(t, a, ca, "ada")
	if err != nil {
		t.Fatal(err)
	}
	xb, err := signIn(t, b, cb, "ada")
	if err != nil {
		t.Fatal(err)
	}
	if xa.Subject != xb.Subject {
		t.Fatal("the test needs the same number at both")
	}
	if ca.Info().Name == cb.Info().Name || ca.Info().Issuer == cb.Info().Issuer {
		t.Errorf("two GitLabs with the same identities: %+v, %+v", ca.Info(), cb.Info())
	}
	f := newFlow()
	q := begin(t, a, ca, f, "ada")
	if _, err := cb.Finish(t.Context(), f, identity.Response{Method: http.MethodGet, Values: q}); reason(t, err) != "oauth_code" {
		t.Errorf("the code of another GitLab: %v", err)
	}
	if _, err := cb.Recheck(t.Context(), xa.Subject, xa.Credential); !errors.Is(err, identity.ErrWithdrawn) {
		t.Errorf("the credential of another GitLab: %v", err)
	}
}

func TestWho(t *testing.T) {
	for _, test := range []struct {
		name  string
		user  gitlabtest.User
		allow []string
		email string
		want  string
	}{
		{"OAU-13 not confirmed", gitlabtest.User{Email: "victim@example.com"}, nil, "", ""},
		{"OAU-13 confirmed", gitlabtest.User{Email: "mine@example.com", Confirmed: true}, nil, "mine@example.com", ""},
		{"confirmed, but none", gitlabtest.User{Confirmed: true}, nil, "", ""},
		{"blocked", gitlabtest.User{State: "blocked"}, nil, "", "gitlab_not_active"},
		{"waiting for approval", gitlabtest.User{State: "blocked_pending_approval"}, nil, "", "gitlab_not_active"},
		{"deactivated", gitlabtest.User{State: "deactivated"}, nil, "", "gitlab_not_active"},
		{"a bot", gitlabtest.User{Bot: true}, nil, "", "gitlab_not_a_user"},
		{"a member", gitlabtest.User{}, []string{"nobody", "ACME"}, "", ""},
		{"a member of a subgroup", gitlabtest.User{}, []string{"initech/labs/robots"}, "", ""},
		{"no member of the group above", gitlabtest.User{}, []string{"initech"}, "", "gitlab_not_a_member"},
		{"less than a guest", gitlabtest.User{}, []string{"public"}, "", "gitlab_not_a_member"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := start(t)
			test.user.ID, test.user.Username = 102, "ada"
			s.SetUser(test.user)
			x, err := signIn(t, s, connect(t, s, func(c *gitlab.Config) { c.Groups = test.allow }), "ada")
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
	s := gitlabtest.Start(t)
	s.PageSize = 7
	s.SetUser(gitlabtest.User{ID: 1, Username: "ada"})
	x, err := signIn(t, s, connect(t, s, nil), "ada")
	if err != nil || x.Groups == nil || len(x.Groups) != 0 {
		t.Fatalf("in no group: %#v, %v", x.Groups, err)
	}
	for i := range 45 {
		s.SetGroup(gitlabtest.Group{ID: 100 + i, Path: fmt.Sprint("group-", i), Members: map[string]int{"ada": 20}})
	}
	x, err = signIn(t, s, connect(t, s, nil), "ada")
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for _, g := range x.Groups {
		ids[g.ID] = true
	}
	if len(ids) != 45 || len(x.Groups) != 45 {
		t.Errorf("%d groups of %d IDs, want 45", len(x.Groups), len(ids))
	}
	s.PageSize = 100
	for i := range 520 {
		s.SetGroup(gitlabtest.Group{ID: 1000 + i, Path: fmt.Sprint("more-", i), Members: map[string]int{"ada": 20}})
	}
	if x, err = signIn(t, s, connect(t, s, nil), "ada"); err != nil || len(x.Groups) != 500 {
		t.Errorf("%d groups, error %v; want 500", len(x.Groups), err)
	}
}

// TestFaults is OAU-10 and SEC-07: a GitLab that is down, slow, huge, or sends the token elsewhere.
func TestFaults(t *testing.T) {
	stolen := make(chan string, 100)
	thief := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		stolen <- fmt.Sprint(r.URL.Path, r.Header.Get("Authorization"), string(body))
	}))
	t.Cleanup(thief.Close)
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", thief.URL+"/stolen")
			w.Header().Set("Retry-After", "3600")
			w.Header().Set("RateLimit-Limit", "1")
			w.WriteHeader(code)
		}
	}
	faults := map[string]http.HandlerFunc{
		"502": status(502), "429": status(429), "OAU-10 302": status(302), "SEC-07 307": status(307),
		"OAU-10 1 GB": huge, "no JSON": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>welcome") },
		"OAU-10 slow": func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		},
	}
	for name, fault := range faults {
		for _, path := range []string{"/oauth/token", "/api/v4/user", "/api/v4/groups"} {
			t.Run(name+path, func(t *testing.T) {
				t.Parallel()
				s := start(t)
				c := connect(t, s, func(c *gitlab.Config) {
					c.Client = outbound.Client(outbound.Options{Private: true, Timeout: 300 * time.Millisecond})
					if strings.Contains(name, "30") {
						c.Client = &http.Client{Timeout: time.Second} // would follow
					}
				})
				before := len(s.Calls())
				s.SetFault(func(w http.ResponseWriter, r *http.Request) bool {
					if r.URL.Path == path {
						fault(w, r)
					}
					return r.URL.Path == path
				})
				if _, err := signIn(t, s, c, "ada"); reason(t, err) != "unavailable" {
					t.Errorf("error %v, want unavailable", err)
				}
				asked := 0
				for _, call := range s.Calls()[before:] {
					if strings.HasSuffix(call, " "+path) {
						asked++
					}
				}
				if asked != 1 {
					t.Errorf("GitLab was asked %d times, want no second try", asked)
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

// TestCanary is OAU-39 for the connector: a GitLab that repeats every secret that it
// was told.
func TestCanary(t *testing.T) {
	for _, path := range []string{"/oauth/token", "/api/v4/user", "/api/v4/groups"} {
		for _, status := range []int{200, 302, 400, 401, 403, 500} {
			t.Run(fmt.Sprint(status, path), func(t *testing.T) {
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
					told := append(slices.Concat(slices.Collect(maps.Values(r.PostForm))...), r.Header.Get("Authorization"))
					text := strings.Join(told, " ")
					w.Header().Set("Location", "https://evil.example/?"+url.QueryEscape(text))
					w.WriteHeader(status)
					if status != 200 {
						fmt.Fprintf(w, `{"message":%q,"error":%[1]q,"error_description":%[1]q}`, text)
					} else {
						fmt.Fprint(w, text)
					}
					return true
				})
				_, err := c.Finish(t.Context(), f, identity.Response{Method: http.MethodGet, Values: q})
				if err == nil {
					t.Fatal("no error")
				}
				text := fmt.Sprintf("%v %+v", err, err)
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

func TestProbe(t *testing.T) {
	for _, test := range []struct {
		name  string
		fault http.HandlerFunc
		up    bool
	}{
		{"up, and wants a token", nil, true},
		{"down", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502) }, false},
		{"moved", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Location", "/"); w.WriteHeader(301) }, false},
		{"something else", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }, false},
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
	for _, test := range []struct {
		name   string
		change func(*gitlab.Config)
		want   string
	}{
		{"GitLab.com", func(c *gitlab.Config) { c.BaseURL = "" }, ""},
		{"a path", func(c *gitlab.Config) { c.BaseURL = "https://example.com/git/" }, ""},
		{"a subgroup", func(c *gitlab.Config) { c.Groups = []string{"acme/platform"} }, ""},
		{"no name", func(c *gitlab.Config) { c.Name = "" }, "is no name"},
		{"no client ID", func(c *gitlab.Config) { c.ClientID = "" }, "client ID is missing"},
		{"no secret", func(c *gitlab.Config) { c.ClientSecret = "" }, "client secret is missing"},
		{"http", func(c *gitlab.Config) { c.BaseURL = "http://gitlab.example.com" }, "https://"},
		{"a group's URL", func(c *gitlab.Config) { c.Groups = []string{"https://gitlab.com/acme"} }, "no path of a group"},
		{"no client", func(c *gitlab.Config) { c.Client = nil }, "HTTP client"},
	} {
		t.Run(test.name, func(t *testing.T) {
			config := gitlab.Config{Name: "gitlab", ClientID: "id", ClientSecret: "canary", Client: outbound.Client(outbound.Options{})}
			test.change(&config)
			_, err := gitlab.New(config)
			if (err == nil) != (test.want == "") || err != nil && (!strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "canary")) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}
