// Package githubtest is a small GitHub to test against: signing in with OAuth, and as
// much of the REST API as says who somebody is and where they belong. It keeps state,
// checks what GitHub checks, and answers errors in GitHub's way, status 200 for those
// of the token endpoint included.
package githubtest

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"testing"

	"github.com/ipuka/ipuka/internal/authcode/authcodetest"
)

// User is an account.
type User struct {
	ID        int64
	Login     string
	Name      string
	Type      string // "User" unless set
	Emails    []Email
	Suspended bool
}

// Email is an address of an account.
type Email struct {
	Address           string
	Primary, Verified bool
}

// Organization is one, with its members by login.
type Organization struct {
	ID      int64
	Login   string
	Members map[string]Membership
	Teams   []Team
}

// Membership is somebody's place in an organization.
type Membership struct {
	Role  string // "admin" or "member"
	State string // "active" unless set, or "pending"
}

// Team is a team of an organization, with its members' logins.
type Team struct {
	ID      int64
	Slug    string
	Name    string
	Members []string
}

// Server is a GitHub. Its URL is what a connector has as base URL. With a TokenLife it
// has a GitHub App whose tokens expire, otherwise an OAuth app.
type Server struct {
	*authcodetest.Server
	PageSize int // most entries of a page; to be set before the server is used

	mutex         sync.Mutex
	users         map[string]User // by login
	organizations []Organization
}

// Start starts a GitHub without any account.
func Start(t testing.TB) *Server {
	t.Helper()
	dialect := authcodetest.Dialect{ //nolint:gosec // G101: prefixes and names, no credentials
		Title: "GitHub", AuthorizePath: "/login/oauth/authorize", TokenPath: "/login/oauth/access_token",
		AccessPrefix: "gho_", RefreshPrefix: "ghr_", Scope: "read:org,read:user,user:email",
		Header: http.Header{"X-Github-Request-Id": {"C0DE:1:2:3:4"}},
		Errors: map[string]string{
			"invalid_client": "incorrect_client_credentials", "invalid_grant": "bad_verification_code",
			authcodetest.RefreshGone: "bad_refresh_token", authcodetest.CallbackDiffers: "redirect_uri_mismatch",
		},
		Form: true, NoRefresh: true,
	}
	s := &Server{PageSize: 100, users: map[string]User{}, Server: authcodetest.Start(t, dialect)}
	s.Handle("GET /api/v3/zen", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "Measure twice.") })
	s.Handle("GET /api/v3/meta", func(w http.ResponseWriter, _ *http.Request) {
		authcodetest.Reply(w, http.StatusOK, map[string]any{"verifiable_password_authentication": true, "installed_version": "3.19.0"})
	})
	s.Handle("GET /api/v3/user", s.as(s.user))
	s.Handle("GET /api/v3/user/emails", s.as(s.emails))
	s.Handle("GET /api/v3/user/memberships/orgs", s.as(s.memberships))
	s.Handle("GET /api/v3/user/teams", s.as(s.teams))
	s.Handle("/api/v3/", func(w http.ResponseWriter, _ *http.Request) { refuse(w, http.StatusNotFound, "Not Found") })
	return s
}

// SetUser adds an account, or replaces the one with its login.
func (s *Server) SetUser(u User) {
	if u.Type == "" {
		u.Type = "User"
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.users[u.Login] = u
	s.AddLogin(u.Login)
}

// SetOrganization adds an organization, or replaces the one with its ID.
func (s *Server) SetOrganization(o Organization) {
	o.Members = maps.Clone(o.Members)
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.organizations = slices.DeleteFunc(s.organizations, func(old Organization) bool { return old.ID == o.ID })
	s.organizations = append(s.organizations, o)
}
