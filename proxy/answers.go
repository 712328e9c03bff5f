package proxy

import (
	"net/http"
	"strconv"
	"time"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
)

// version keeps every CLI from nagging about upgrades: which version its users
// should run is the administrator's business.
func (g *Gate) version(w http.ResponseWriter, _ *call) error {
	httpapi.WriteJSON(w, http.StatusOK, map[string]string{
		"latestVersion": "3.0.0", "oldestWithoutWarning": "3.0.0", "latestDevVersion": "3.0.0"})
	return nil
}

// emptyList answers a list of something that this installation has none of.
func emptyList(member string) func(*Gate, http.ResponseWriter, *call) error {
	return func(_ *Gate, w http.ResponseWriter, _ *call) error {
		httpapi.WriteJSON(w, http.StatusOK, map[string][]string{member: {}})
		return nil
	}
}

// userInfo is a person, as most answers show one.
type userInfo struct {
	Name      string `json:"name"`
	Login     string `json:"githubLogin"`
	AvatarURL string `json:"avatarUrl"`
	Email     string `json:"email,omitempty"`
}

type organizationSummary struct {
	Name      string `json:"name"`
	Login     string `json:"githubLogin"`
	AvatarURL string `json:"avatarUrl"`
	Role      string `json:"role,omitempty"`
}

// defaultOrganization is the organization that the CLI takes when a stack is named
// without one.
func (g *Gate) defaultOrganization(w http.ResponseWriter, c *call) error {
	org, err := g.Directory.DefaultOrganization(c.Context(), c.principal.UserID)
	if err != nil {
		return err
	}
	httpapi.WriteJSON(w, http.StatusOK, struct {
		Login    string `json:"GitHubLogin"`
		Messages []string
	}{org.Login, []string{}})
	return nil
}

func (g *Gate) setDefaultOrganization(w http.ResponseWriter, c *call) error {
	return noContent(w, g.Directory.SetDefaultOrganization(c.Context(), c.principal, c.org.ID))
}

// accessToken is a personal token in lists. Its value is never shown again.
type accessToken struct {
	ID          string    `json:"id"`
	Name        string    `json:"name"`
	Description string    `json:"description"`
	Created     time.Time `json:"created"`
	CreatedBy   string    `json:"createdBy"`
	LastUsed    int64     `json:"lastUsed"` // Unix seconds, 0 for never
	Expires     int64     `json:"expires"`  // Unix seconds, 0 for never
	Admin       bool      `json:"admin"`
	Type        string    `json:"type"`
}

func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func (g *Gate) createToken(w http.ResponseWriter, c *call) error {
	var body struct {
		Description string `json:"description"`
		Expires     int64  `json:"expires"`
		Nonce       string `json:"nonce"` // ours: a second call with the same one makes no second token
	}
	if err := c.decodeBody(&body); err != nil {
		return err
	}
	request := identity.TokenRequest{Description: body.Description, Nonce: body.Nonce, Via: "api"}
	if c.principal.SessionID != "" {
		request.Via = "console"
	}
	if body.Expires != 0 {
		request.Expires = time.Unix(body.Expires, 0)
	}
	token, secret, err := g.Directory.CreateToken(c.Context(), c.principal, request)
	if err != nil {
		return err
	}
	httpapi.WriteJSON(w, http.StatusOK, map[string]string{"id": token.ID, "tokenValue": secret})
	return nil
}

func (g *Gate) deleteToken(w http.ResponseWriter, c *call) error {
	if err := g.Directory.RevokeToken(c.detached(), c.principal, c.names["token"]); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// maxResults reads the page size that the caller asks for.
func (c *call) maxResults(usual, most int) (int, error) {
	text := c.query.Get("maxResults")
	if text == "" {
		return usual, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, errs.Errorf(errs.Invalid, "maxResults is a positive number")
	}
	return min(n, most), nil
}

func (g *Gate) listTokens(w http.ResponseWriter, c *call) error {
	limit, err := c.maxResults(100, 1000)
	if err != nil {
		return err
	}
	tokens, next, err := g.Directory.Tokens(c.Context(), c.principal.UserID, identity.TokenQuery{
		Filter: identity.TokenFilter(c.query.Get("filter")), Cursor: c.query.Get("continuationToken"), Limit: limit})
	if err != nil {
		return err
	}
	list := make([]accessToken, 0, len(tokens))
	for _, t := range tokens {
		list = append(list, accessToken{ID: t.ID, Description: t.Description, Created: t.Created, CreatedBy: c.principal.Login,
			LastUsed: unix(t.LastUsed), Expires: unix(t.Expires), Type: "personal"})
	}
	httpapi.WriteJSON(w, http.StatusOK, struct {
		Tokens            []accessToken `json:"tokens"`
		ContinuationToken string        `json:"continuationToken,omitempty"`
	}{list, next})
	return nil
}

// organization answers with what members may know of their organization.
func (g *Gate) organization(w http.ResponseWriter, c *call) error {
	org, err := g.Directory.Organization(c.Context(), c.object.Organization)
	if err != nil {
		return err
	}
	httpapi.WriteJSON(w, http.StatusOK, organizationSummary{Name: org.Name, Login: org.Login})
	return nil
}

type memberInfo struct {
	Role          string    `json:"role"`
	User          userInfo  `json:"user"`
	Created       time.Time `json:"created"`
	KnownToPulumi bool      `json:"knownToPulumi"`
	VirtualAdmin  bool      `json:"virtualAdmin"`
	FGARole       roleInfo  `json:"fgaRole"`
	Source        string    `json:"source,omitempty"` // ours: the connector that keeps the membership
}

type roleInfo struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

func memberInfoOf(m identity.Member) memberInfo {
	return memberInfo{Role: string(m.Role), Created: m.Created, KnownToPulumi: true,
		User:    userInfo{m.User.Name, m.User.Login, m.User.AvatarURL, m.User.Email},
		FGARole: roleInfo{ID: string(m.Role), Name: string(m.Role)}, Source: m.Source}
}

// members lists the organization's members. Clients ask twice, for those known here
// ("frontend") and those known to the identity provider behind the organization
// ("backend"): without such a provider the two are the same.
func (g *Gate) members(w http.ResponseWriter, c *call) error {
	members, next, err := g.Directory.Members(c.Context(), c.log, c.query.Get("continuationToken"), 0)
	if err != nil {
		return err
	}
	list := make([]memberInfo, 0, len(members))
	for _, m := range members {
		list = append(list, memberInfoOf(m))
	}
	httpapi.WriteJSON(w, http.StatusOK, struct {
		Members           []memberInfo `json:"members"`
		ContinuationToken string       `json:"continuationToken,omitempty"`
	}{list, next})
	return nil
}
