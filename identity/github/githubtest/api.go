package githubtest

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ipuka/ipuka/internal/authcode/authcodetest"
)

func refuse(w http.ResponseWriter, status int, message string) {
	authcodetest.Reply(w, status, map[string]any{"message": message, "documentation_url": "https://docs.github.com/rest", "status": strconv.Itoa(status)})
}

// as calls handler with the account that the request's token is for.
func (s *Server) as(handler func(http.ResponseWriter, *http.Request, User)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		login, known := s.Login(r)
		s.mutex.Lock()
		user := s.users[login]
		s.mutex.Unlock()
		w.Header().Set("X-RateLimit-Limit", "5000")
		w.Header().Set("X-RateLimit-Remaining", "4999")
		w.Header().Set("X-RateLimit-Reset", strconv.FormatInt(time.Now().Add(time.Hour).Unix(), 10))
		w.Header().Set("X-OAuth-Scopes", "read:org, read:user, user:email")
		switch {
		case !known || user.ID == 0:
			refuse(w, http.StatusUnauthorized, "Bad credentials")
		case user.Suspended:
			refuse(w, http.StatusForbidden, "Sorry. Your account was suspended.")
		default:
			handler(w, r, user)
		}
	}
}

// account is GitHub's "simple user".
func (s *Server) account(id int64, login, kind string) map[string]any {
	api, web := s.URL+"/api/v3/users/"+login, s.URL+"/"+login
	return map[string]any{
		"login": login, "id": id, "node_id": fmt.Sprintf("U_%d", id), "avatar_url": fmt.Sprintf("https://avatars.example.com/u/%d?v=4", id),
		"gravatar_id": "", "url": api, "html_url": web, "followers_url": api + "/followers", "following_url": api + "/following{/other_user}",
		"gists_url": api + "/gists{/gist_id}", "starred_url": api + "/starred{/owner}{/repo}", "subscriptions_url": api + "/subscriptions",
		"organizations_url": api + "/orgs", "repos_url": api + "/repos", "events_url": api + "/events{/privacy}",
		"received_events_url": api + "/received_events", "type": kind, "site_admin": false, "user_view_type": "public",
	}
}

func (s *Server) user(w http.ResponseWriter, _ *http.Request, u User) {
	answer := s.account(u.ID, u.Login, u.Type)
	for name, value := range map[string]any{
		"company": nil, "blog": "", "location": nil, "hireable": nil, "bio": nil, "twitter_username": nil,
		"email": nil, "name": nil, "notification_email": nil, "public_repos": 0, "public_gists": 0, "followers": 0, "following": 0,
		"created_at": "2020-01-02T03:04:05Z", "updated_at": "2026-01-02T03:04:05Z", "suspended_at": nil,
		"private_gists": 0, "total_private_repos": 0, "owned_private_repos": 0, "disk_usage": 0, "collaborators": 0,
		"two_factor_authentication": true,
	} {
		answer[name] = value
	}
	if u.Name != "" {
		answer["name"] = u.Name
	}
	if len(u.Emails) > 0 { // what a person shows need not be theirs: it is no proof of anything
		answer["email"] = u.Emails[len(u.Emails)-1].Address
	}
	authcodetest.Reply(w, http.StatusOK, answer)
}

func (s *Server) emails(w http.ResponseWriter, r *http.Request, u User) {
	list := []any{}
	for _, e := range u.Emails {
		list = append(list, map[string]any{"email": e.Address, "primary": e.Primary, "verified": e.Verified, "visibility": nil})
	}
	s.page(w, r, list)
}

func (s *Server) organization(o Organization) map[string]any {
	api := s.URL + "/api/v3/orgs/" + o.Login
	return map[string]any{
		"login": o.Login, "id": o.ID, "node_id": fmt.Sprintf("O_%d", o.ID), "url": api, "repos_url": api + "/repos",
		"events_url": api + "/events", "hooks_url": api + "/hooks", "issues_url": api + "/issues", "members_url": api + "/members{/member}",
		"public_members_url": api + "/public_members{/member}", "avatar_url": fmt.Sprintf("https://avatars.example.com/u/%d?v=4", o.ID), "description": nil,
	}
}

func (s *Server) memberships(w http.ResponseWriter, r *http.Request, u User) {
	s.mutex.Lock()
	list := []any{}
	for _, o := range s.organizations {
		m, member := o.Members[u.Login]
		if m.State == "" {
			m.State = "active"
		}
		if wanted := r.FormValue("state"); !member || wanted != "" && wanted != m.State {
			continue
		}
		api := s.URL + "/api/v3/orgs/" + o.Login
		list = append(list, map[string]any{
			"url": api + "/memberships/" + u.Login, "state": m.State, "role": m.Role, "organization_url": api,
			"organization": s.organization(o), "user": s.account(u.ID, u.Login, u.Type),
		})
	}
	s.mutex.Unlock()
	s.page(w, r, list)
}

func (s *Server) teams(w http.ResponseWriter, r *http.Request, u User) {
	s.mutex.Lock()
	list := []any{}
	for _, o := range s.organizations {
		for _, t := range o.Teams {
			if !slices.Contains(t.Members, u.Login) {
				continue
			}
			list = append(list, s.team(o, t))
		}
	}
	s.mutex.Unlock()
	s.page(w, r, list)
}

func (s *Server) team(o Organization, t Team) map[string]any {
	api := fmt.Sprintf("%s/api/v3/organizations/%d/team/%d", s.URL, o.ID, t.ID)
	organization := s.organization(o)
	for name, value := range map[string]any{
		"html_url": s.URL + "/" + o.Login, "type": "Organization", "public_repos": 0, "public_gists": 0, "followers": 0, "following": 0,
		"created_at": "2020-01-02T03:04:05Z", "updated_at": "2026-01-02T03:04:05Z", "archived_at": nil,
		"has_organization_projects": true, "has_repository_projects": true,
	} {
		organization[name] = value
	}
	return map[string]any{
		"id": t.ID, "node_id": fmt.Sprintf("T_%d", t.ID), "url": api, "html_url": s.URL + "/orgs/" + o.Login + "/teams/" + t.Slug,
		"name": t.Name, "slug": t.Slug, "description": nil, "privacy": "closed", "notification_setting": "notifications_enabled",
		"permission": "pull", "members_url": api + "/members{/member}", "repositories_url": api + "/repos", "parent": nil,
		"members_count": len(t.Members), "repos_count": 0, "created_at": "2020-01-02T03:04:05Z", "updated_at": "2026-01-02T03:04:05Z",
		"type": "organization", "organization_id": o.ID, "organization": organization,
	}
}

// page answers with a part of a list and links to the others (RFC 8288).
func (s *Server) page(w http.ResponseWriter, r *http.Request, list []any) {
	size, _ := strconv.Atoi(r.FormValue("per_page"))
	if size <= 0 {
		size = 30
	}
	size = min(size, s.PageSize)
	number, _ := strconv.Atoi(r.FormValue("page"))
	number = max(number, 1)
	start, end := min((number-1)*size, len(list)), min(number*size, len(list))
	link := func(page int, relation string) string {
		to, query := *r.URL, r.URL.Query()
		query.Set("page", strconv.Itoa(page))
		to.RawQuery = query.Encode()
		return fmt.Sprintf(`<%s%s>; rel=%q`, s.URL, to.RequestURI(), relation)
	}
	var links []string
	if number > 1 {
		links = append(links, link(number-1, "prev"), link(1, "first"))
	}
	if end < len(list) {
		links = append(links, link(number+1, "next"), link((len(list)+size-1)/size, "last"))
	}
	if len(links) > 0 {
		w.Header().Set("Link", strings.Join(links, ", "))
	}
	authcodetest.Reply(w, http.StatusOK, list[start:end])
}
