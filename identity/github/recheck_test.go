package github_test

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/identity/github"
	"github.com/ipuka/ipuka/identity/github/githubtest"
	"github.com/ipuka/ipuka/internal/errs"
)

func TestRecheck(t *testing.T) {
	answer := func(path string, status int) func(*githubtest.Server) {
		return func(s *githubtest.Server) {
			s.SetFault(func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path == path {
					w.WriteHeader(status)
				}
				return r.URL.Path == path
			})
		}
	}
	for _, test := range []struct {
		name   string
		change func(*githubtest.Server)
		want   error
	}{
		{"nothing has changed", func(*githubtest.Server) {}, nil},
		{"revoked", func(s *githubtest.Server) { s.Revoke("ada") }, identity.ErrWithdrawn},
		{"suspended", func(s *githubtest.Server) { s.SetUser(githubtest.User{ID: 101, Login: "ada", Suspended: true}) }, identity.ErrWithdrawn},
		{"another account", func(s *githubtest.Server) { s.SetUser(githubtest.User{ID: 202, Login: "ada"}) }, identity.ErrWithdrawn},
		{"left", func(s *githubtest.Server) { s.SetOrganization(githubtest.Organization{ID: 9001, Login: "Acme"}) }, identity.ErrWithdrawn},
		{"down", answer("/api/v3/user", 503), errs.Unavailable},
		{"half down", answer("/api/v3/user/teams", 500), errs.Unavailable},
		{"limited", answer("/api/v3/user", 429), errs.Unavailable},
		{"permissions of the application gone", answer("/api/v3/user/emails", 404), errs.Unavailable},
		{"forbidden by something else", answer("/api/v3/user", 403), errs.Unavailable},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := start(t)
			c := connect(t, s, func(c *github.Config) { c.Organizations = []string{"acme"} })
			x, err := signIn(t, s, c, "ada")
			if err != nil {
				t.Fatal(err)
			}
			test.change(s)
			again, err := c.Recheck(t.Context(), x.Subject, x.Credential)
			if !errors.Is(err, test.want) {
				t.Fatalf("error %v, want %v", err, test.want)
			}
			if err == nil && (again.Subject != x.Subject || len(again.Groups) != len(x.Groups) || string(again.Credential) != string(x.Credential)) {
				t.Errorf("found %+v, before %+v", again, x)
			}
			if errors.Is(err, errs.Unavailable) && errors.Is(err, identity.ErrWithdrawn) {
				t.Error("both at once")
			}
		})
	}
}

// TestRecheckRenews is about the tokens of GitHub Apps, which expire. The fake takes
// each refresh token once.
func TestRecheckRenews(t *testing.T) {
	s := start(t)
	s.TokenLife = 30 * time.Second // too short to be used without renewing it
	c := connect(t, s, nil)
	x, err := signIn(t, s, c, "ada")
	if err != nil {
		t.Fatal(err)
	}
	first := x.Credential
	for range 3 {
		next, err := c.Recheck(t.Context(), x.Subject, x.Credential)
		if err != nil {
			t.Fatal(err)
		}
		if string(next.Credential) == string(x.Credential) {
			t.Fatal("the credential is the old one")
		}
		x = next
	}
	if _, err := c.Recheck(t.Context(), x.Subject, first); !errors.Is(err, identity.ErrWithdrawn) {
		t.Errorf("a used refresh token: %v", err)
	}
	s.SetFault(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/api/v3/user" {
			w.WriteHeader(http.StatusBadGateway)
			return true
		}
		return false
	})
	half, err := c.Recheck(t.Context(), x.Subject, x.Credential)
	if !errors.Is(err, errs.Unavailable) || len(half.Credential) == 0 || half.Subject != "" {
		t.Fatalf("renewed, then down: %+v, %v", half, err)
	}
	s.SetFault(nil)
	s.ClientSecret = "changed"
	if _, err := c.Recheck(t.Context(), x.Subject, half.Credential); !errors.Is(err, errs.Unavailable) {
		t.Errorf("with the wrong client secret: %v", err)
	}
}

// TestOldCredential is about what has been stored and cannot be read.
func TestOldCredential(t *testing.T) {
	s := start(t)
	for _, credential := range []string{"", "{}", "null", `"gho_1"`, "\x00"} {
		_, err := connect(t, s, nil).Recheck(t.Context(), "101", []byte(credential))
		if err == nil || errors.Is(err, identity.ErrWithdrawn) {
			t.Errorf("credential %q: %v", credential, err)
		}
	}
}
