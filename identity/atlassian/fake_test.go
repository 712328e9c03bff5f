package atlassian_test

import (
	"fmt"
	"net/http"
	"strconv"
	"testing"

	"github.com/ipuka/ipuka/internal/authcode/authcodetest"
)

// fake is Atlassian's and Bitbucket's API with one account, ada, whose answers a test
// may change. Both sides are one server.
type fake struct {
	*authcodetest.Server
	me, user map[string]any
	emails   []any
	spaces   []any
	pageSize int
	next     string // in place of the next page's URL
}

func start(t *testing.T) *fake {
	s := &fake{pageSize: 100}
	s.Server = authcodetest.Start(t, authcodetest.Dialect{
		Title: "Atlassian", AuthorizePath: "/authorize", TokenPath: "/oauth/token", Scope: "read:me offline_access", RequireCallback: true,
	})
	s.fill()
	return s
}

func startBitbucket(t *testing.T) *fake {
	s := &fake{pageSize: 100}
	s.Server = authcodetest.Start(t, authcodetest.Dialect{
		Title: "Bitbucket", AuthorizePath: "/site/oauth2/authorize", TokenPath: "/site/oauth2/access_token", Scope: "account email",
	})
	s.fill()
	return s
}

func (s *fake) fill() {
	s.AddLogin("ada")
	s.me = map[string]any{
		"account_type": "atlassian", "account_id": "557058:0a1b", "email": "ada@example.com", "email_verified": true, "name": "Ada L",
		"picture": "https://avatars.example.com/ada", "account_status": "active", "nickname": "ada", "locale": "en-GB", "zoneinfo": "Etc/UTC",
		"extended_profile": map[string]any{"job_title": "Engineer"},
	}
	s.user = map[string]any{
		"type": "user", "uuid": "{0a1b2c3d-0000-4000-8000-000000000001}", "account_id": "557058:0a1b", "username": "ada", "nickname": "Ada",
		"display_name": "Ada L", "account_status": "active", "links": map[string]any{"avatar": map[string]any{"href": "https://avatars.example.com/ada"}},
	}
	s.emails = []any{
		email("ada@work.example", false, true),
		email("ada@example.com", true, true),
	}
	s.spaces = []any{workspace(1, true), workspace(2, false)}
	s.Handle("GET /me", s.as(func(w http.ResponseWriter, _ *http.Request) { authcodetest.Reply(w, http.StatusOK, s.me) }))
	s.Handle("GET /2.0/user", s.as(func(w http.ResponseWriter, _ *http.Request) { authcodetest.Reply(w, http.StatusOK, s.user) }))
	s.Handle("GET /2.0/user/emails", s.as(func(w http.ResponseWriter, r *http.Request) { s.page(w, r, s.emails) }))
	s.Handle("GET /2.0/user/workspaces", s.as(func(w http.ResponseWriter, r *http.Request) { s.page(w, r, s.spaces) }))
}

func email(address string, primary, confirmed any) map[string]any {
	return map[string]any{"type": "email", "email": address, "is_primary": primary, "is_confirmed": confirmed}
}

func workspace(n int, administrator bool) map[string]any {
	return map[string]any{"type": "workspace_access", "administrator": administrator, "workspace": map[string]any{
		"type": "workspace_base", "uuid": fmt.Sprintf("{%d}", n), "slug": fmt.Sprint("space-", n), "links": map[string]any{},
	}}
}

func (s *fake) as(handler http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if _, known := s.Login(r); !known {
			authcodetest.Reply(w, http.StatusUnauthorized, map[string]any{"code": 401, "message": "Unauthorized"})
			return
		}
		handler(w, r)
	}
}

func (s *fake) page(w http.ResponseWriter, r *http.Request, list []any) {
	number, _ := strconv.Atoi(r.FormValue("page"))
	number = max(number, 1)
	start, end := min((number-1)*s.pageSize, len(list)), min(number*s.pageSize, len(list))
	answer := map[string]any{"values": list[start:end], "pagelen": s.pageSize, "page": number, "size": len(list)}
	if end < len(list) {
		answer["next"] = fmt.Sprintf("%s%s?pagelen=%d&page=%d", s.URL, r.URL.Path, s.pageSize, number+1)
		if s.next != "" {
			answer["next"] = s.next
		}
	}
	authcodetest.Reply(w, http.StatusOK, answer)
}
