package gitlab_test

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/identity/gitlab"
	"github.com/ipuka/ipuka/identity/gitlab/gitlabtest"
	"github.com/ipuka/ipuka/internal/errs"
)

func TestRecheck(t *testing.T) {
	answer := func(path string, status int) func(*gitlabtest.Server) {
		return func(s *gitlabtest.Server) {
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
		change func(*gitlabtest.Server)
		want   error
	}{
		{"nothing has changed", func(*gitlabtest.Server) {}, nil},
		{"revoked", func(s *gitlabtest.Server) { s.Revoke("ada") }, identity.ErrWithdrawn},
		{"blocked", func(s *gitlabtest.Server) {
			s.SetUser(gitlabtest.User{ID: 101, Username: "ada", State: "blocked"})
		}, identity.ErrWithdrawn},
		{"another account", func(s *gitlabtest.Server) { s.SetUser(gitlabtest.User{ID: 202, Username: "ada"}) }, identity.ErrWithdrawn},
		{"left", func(s *gitlabtest.Server) { s.SetGroup(gitlabtest.Group{ID: 1, Path: "acme"}) }, identity.ErrWithdrawn},
		{"down", answer("/api/v4/user", 503), errs.Unavailable},
		{"half down", answer("/api/v4/groups", 500), errs.Unavailable},
		{"limited", answer("/api/v4/user", 429), errs.Unavailable},
		{"scopes of the application gone", answer("/api/v4/groups", 403), errs.Unavailable},
		{"moved", answer("/api/v4/user", 404), errs.Unavailable},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := start(t)
			c := connect(t, s, func(c *gitlab.Config) { c.Groups = []string{"acme"} })
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

// TestRecheckRenews follows refresh tokens, each of which works once.
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
		down := r.URL.Path == "/api/v4/groups"
		if down {
			w.WriteHeader(http.StatusBadGateway)
		}
		return down
	})
	half, err := c.Recheck(t.Context(), x.Subject, x.Credential)
	if !errors.Is(err, errs.Unavailable) || len(half.Credential) == 0 || half.Subject != "" {
		t.Fatalf("renewed, then down: %+v, %v", half, err)
	}
	s.SetFault(nil)
	if x, err = c.Recheck(t.Context(), x.Subject, half.Credential); err != nil {
		t.Fatalf("the credential that came with the error: %v", err)
	}
	s.ClientSecret = "changed"
	if _, err := c.Recheck(t.Context(), x.Subject, x.Credential); !errors.Is(err, errs.Unavailable) {
		t.Errorf("with the wrong client secret: %v", err)
	}
}
