// Package gitlabtest is a small GitLab to test against: signing in with OAuth, with PKCE
// and refresh tokens that work once, and as much of the REST API as says who somebody
// is and which groups they are in.
package gitlabtest

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipuka/ipuka/internal/authcode/authcodetest"
)

// User is an account.
type User struct {
	ID        int
	Username  string
	Name      string
	Email     string
	Confirmed bool   // the address is
	State     string // "active" unless set, "blocked", "deactivated" ...
	Bot       bool
}

// Group is one, with the access levels of its members by username: 10 is a guest's, 50
// an owner's. Members of a group are members of those below it.
type Group struct {
	ID      int
	Path    string // full
	Name    string
	Parent  int // ID of the group above; 0 at the top
	Members map[string]int
}

// Server is a GitLab. Its URL is what a connector has as base URL.
type Server struct {
	*authcodetest.Server
	PageSize int // most entries of a page; to be set before the server is used

	mutex  sync.Mutex
	users  map[string]User // by username
	groups []Group
}

// Start starts a GitLab without any account.
func Start(t testing.TB) *Server {
	t.Helper()
	dialect := authcodetest.Dialect{ //nolint:gosec // G101: paths and names, no credentials
		Title: "GitLab", AuthorizePath: "/oauth/authorize", TokenPath: "/oauth/token", Scope: "read_user read_api", RequireCallback: true,
	}
	s := &Server{PageSize: 100, users: map[string]User{}, Server: authcodetest.Start(t, dialect)}
	s.TokenLife = 2 * time.Hour
	s.Handle("GET /api/v4/version", s.as(func(w http.ResponseWriter, _ *http.Request, _ User) {
		authcodetest.Reply(w, http.StatusOK, map[string]string{"version": "19.5.0", "revision": "0123456789a"})
	}))
	s.Handle("GET /api/v4/user", s.as(s.user))
	s.Handle("GET /api/v4/groups", s.as(s.list))
	s.Handle("/api/v4/", func(w http.ResponseWriter, _ *http.Request) {
		authcodetest.Reply(w, http.StatusNotFound, map[string]string{"error": "404 Not Found"})
	})
	return s
}

// SetUser adds an account, or replaces the one with its name.
func (s *Server) SetUser(u User) {
	if u.State == "" {
		u.State = "active"
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.users[u.Username] = u
	s.AddLogin(u.Username)
}

// SetGroup adds a group, or replaces the one with its ID.
func (s *Server) SetGroup(g Group) {
	g.Members = maps.Clone(g.Members)
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.groups = slices.DeleteFunc(s.groups, func(old Group) bool { return old.ID == g.ID })
	s.groups = append(s.groups, g)
}

// as calls handler with the account that the request's token is for.
func (s *Server) as(handler func(http.ResponseWriter, *http.Request, User)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		login, known := s.Login(r)
		s.mutex.Lock()
		user := s.users[login]
		s.mutex.Unlock()
		switch {
		case !known || user.ID == 0:
			authcodetest.Reply(w, http.StatusUnauthorized, map[string]string{"message": "401 Unauthorized"})
		case user.State == "blocked":
			authcodetest.Reply(w, http.StatusForbidden, map[string]string{"message": "403 Forbidden - Your account has been blocked."})
		default:
			handler(w, r, user)
		}
	}
}

func (s *Server) user(w http.ResponseWriter, _ *http.Request, u User) {
	var confirmed any
	if u.Confirmed {
		confirmed = "2020-01-02T03:04:05.678Z"
	}
	authcodetest.Reply(w, http.StatusOK, map[string]any{
		"id": u.ID, "username": u.Username, "public_email": "", "name": u.Name, "state": u.State, "locked": false,
		"avatar_url": "https://avatars.example.com/" + u.Username, "web_url": s.URL + "/" + u.Username,
		"created_at": "2020-01-02T03:04:05.678Z", "bio": "", "location": "", "linkedin": "", "twitter": "", "website_url": "",
		"organization": "", "job_title": "", "pronouns": nil, "bot": u.Bot, "work_information": nil, "followers": 0, "following": 0,
		"local_time": nil, "last_sign_in_at": "2026-01-02T03:04:05.678Z", "confirmed_at": confirmed, "last_activity_on": "2026-01-02",
		"email": u.Email, "theme_id": 3, "color_scheme_id": 1, "projects_limit": 100000, "current_sign_in_at": "2026-01-02T03:04:05.678Z",
		"identities": []any{}, "can_create_group": true, "can_create_project": true, "two_factor_enabled": true, "external": false,
		"private_profile": false, "commit_email": u.Email, "namespace_id": u.ID,
	})
}

// level returns somebody's access level in a group, which those above it give too. The
// mutex is held.
func (s *Server) level(g Group, username string) int {
	level := g.Members[username]
	for _, above := range s.groups {
		if above.ID == g.Parent {
			level = max(level, s.level(above, username))
		}
	}
	return level
}

func (s *Server) list(w http.ResponseWriter, r *http.Request, u User) {
	least, _ := strconv.Atoi(r.FormValue("min_access_level"))
	s.mutex.Lock()
	list := []any{}
	for _, g := range s.groups {
		if s.level(g, u.Username) < max(least, 1) || r.FormValue("top_level_only") == "true" && g.Parent != 0 {
			continue
		}
		var parent any
		if g.Parent != 0 {
			parent = g.Parent
		}
		list = append(list, map[string]any{
			"id": g.ID, "web_url": s.URL + "/groups/" + g.Path, "name": g.Name, "path": g.Path[strings.LastIndex(g.Path, "/")+1:],
			"description": "", "visibility": "private", "share_with_group_lock": false, "require_two_factor_authentication": false,
			"two_factor_grace_period": 48, "project_creation_level": "developer", "auto_devops_enabled": nil,
			"subgroup_creation_level": "maintainer", "emails_disabled": false, "emails_enabled": true, "mentions_disabled": nil,
			"lfs_enabled": true, "avatar_url": nil, "request_access_enabled": true, "full_name": g.Name, "full_path": g.Path,
			"created_at": "2020-01-02T03:04:05.678Z", "parent_id": parent,
		})
	}
	s.mutex.Unlock()
	s.page(w, r, list)
}

// page answers with a part of a list and says in headers where the others are.
func (s *Server) page(w http.ResponseWriter, r *http.Request, list []any) {
	size, _ := strconv.Atoi(r.FormValue("per_page"))
	if size <= 0 {
		size = 20
	}
	size = min(size, s.PageSize)
	number, _ := strconv.Atoi(r.FormValue("page"))
	number = max(number, 1)
	start, end := min((number-1)*size, len(list)), min(number*size, len(list))
	next, previous := "", ""
	if end < len(list) {
		next = strconv.Itoa(number + 1)
		w.Header().Set("Link", fmt.Sprintf(`<%s%s?page=%s&per_page=%d>; rel="next"`, s.URL, r.URL.Path, next, size))
	}
	if number > 1 {
		previous = strconv.Itoa(number - 1)
	}
	for name, value := range map[string]string{
		"X-Next-Page": next, "X-Prev-Page": previous, "X-Page": strconv.Itoa(number), "X-Per-Page": strconv.Itoa(size),
		"X-Total": strconv.Itoa(len(list)), "X-Total-Pages": strconv.Itoa((len(list) + size - 1) / size),
	} {
		w.Header().Set(name, value)
	}
	authcodetest.Reply(w, http.StatusOK, list[start:end])
}
