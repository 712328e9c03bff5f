package gitlab

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/xanzy/go-gitlab"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/authcode"
)

// maxGroups is how many groups of a person are read.
const maxGroups = 500

const perPage = 100

// reader reads the account of one token.
type reader struct {
	*Connector
	client *gitlab.Client //nolint:staticcheck // its successor needs many more modules and does the same calls
	token  authcode.Token
}

// unlimited has the library not slow itself down: a person costs a few calls.
type unlimited struct{}

func (unlimited) Wait(context.Context) error { return nil }

// read returns the account that a token is for. The error is a *identity.Refusal, or
// errs.Unavailable.
func (c *Connector) read(ctx context.Context, token authcode.Token) (identity.External, error) {
	options := []gitlab.ClientOptionFunc{
		gitlab.WithBaseURL(c.base), gitlab.WithHTTPClient(c.provider.HTTP()), gitlab.WithoutRetries(), gitlab.WithCustomLimiter(unlimited{}),
	}
	client, err := gitlab.NewOAuthClient(token.Access, options...) //nolint:staticcheck // see reader
	if err != nil {
		return identity.External{}, c.provider.Unreachable(err)
	}
	return reader{c, client, token}.external(ctx)
}

func (r reader) external(ctx context.Context) (identity.External, error) {
	user, _, err := r.client.Users.CurrentUser(gitlab.WithContext(ctx))
	if err != nil {
		return identity.External{}, r.judge(err, "the account")
	}
	switch {
	case user.ID <= 0:
		return identity.External{}, r.provider.Unusable("an account without an ID")
	case user.State != "active":
		return identity.External{}, r.refuse(NotActive, "the account is not active at "+r.info.Title)
	case user.Bot:
		return identity.External{}, r.refuse(NotAUser, "the account is no person's")
	}
	groups, err := r.list(ctx)
	if err != nil {
		return identity.External{}, err
	}
	x := identity.External{
		Subject:    strconv.Itoa(user.ID),
		Login:      user.Username,
		Name:       user.Name,
		Groups:     groups,
		Credential: r.token.Credential(),
	}
	if user.ConfirmedAt != nil && !user.ConfirmedAt.IsZero() && user.Email != "" {
		x.Email, x.EmailVerified = user.Email, true
	}
	if u, err := url.Parse(user.AvatarURL); err == nil && u.Scheme == "https" {
		x.AvatarURL = user.AvatarURL
	}
	x.Attributes = attributes(x, r.token.Scope)
	return x, nil
}

// list returns the groups that the person is a member of, directly or by a group above,
// as a guest at least. A person who is in none of the groups that let people in is
// refused.
func (r reader) list(ctx context.Context) ([]identity.Group, error) {
	found, err := r.all(ctx, gitlab.ListGroupsOptions{MinAccessLevel: gitlab.Ptr(gitlab.GuestPermissions)})
	if err != nil {
		return nil, r.judge(err, "the groups")
	}
	if !r.admitted(found) {
		return nil, r.refuse(NotAMember, "the account is no member of "+strings.Join(r.groups, ", "))
	}
	owned := map[int]bool{}
	if len(found) > 0 {
		top, err := r.all(ctx, gitlab.ListGroupsOptions{MinAccessLevel: gitlab.Ptr(gitlab.OwnerPermissions), TopLevelOnly: gitlab.Ptr(true)})
		if err != nil {
			return nil, r.judge(err, "the groups")
		}
		for _, g := range top {
			owned[g.ID] = g.ParentID == 0
		}
	}
	return convert(found, owned), nil
}

// convert makes groups of GitLab's. The parent of a subgroup, at whatever depth, is its
// group at the top, which is what an organization can be backed by. A person may be in
// a subgroup without being in the groups above; then it is the lowest of those that is
// not theirs, which lets nobody in anywhere, but does not make a top of the subgroup.
func convert(found []*gitlab.Group, owned map[int]bool) []identity.Group {
	parents := make(map[int]int, len(found))
	for _, g := range found {
		parents[g.ID] = g.ParentID
	}
	groups := make([]identity.Group, 0, len(found))
	for _, g := range found {
		converted := identity.Group{ID: groupID(g.ID), Path: g.FullPath, Name: g.Name, Admin: owned[g.ID]}
		top := g.ParentID
		// The depth is GitLab's limit of twenty, and no cycle keeps us longer.
		for range 20 {
			above, known := parents[top]
			if !known || above == 0 {
				break
			}
			top = above
		}
		if top != 0 {
			converted.Parent = groupID(top)
		}
		groups = append(groups, converted)
	}
	return groups
}

func groupID(id int) string { return "group:" + strconv.Itoa(id) }

// admitted reports whether one of the groups lets the person in.
func (c *Connector) admitted(found []*gitlab.Group) bool {
	return len(c.groups) == 0 || slices.ContainsFunc(found, func(g *gitlab.Group) bool {
		return slices.ContainsFunc(c.groups, func(path string) bool { return strings.EqualFold(path, g.FullPath) })
	})
}

// all reads the pages of a list, up to maxGroups entries.
func (r reader) all(ctx context.Context, o gitlab.ListGroupsOptions) ([]*gitlab.Group, error) {
	var groups []*gitlab.Group
	o.AllAvailable = gitlab.Ptr(false)
	o.ListOptions = gitlab.ListOptions{Page: 1, PerPage: perPage}
	for {
		some, response, err := r.client.Groups.ListGroups(&o, gitlab.WithContext(ctx))
		if err != nil {
			return nil, err
		}
		for _, g := range some {
			if g.ID > 0 {
				groups = append(groups, g)
			}
		}
		// A server whose next page is an earlier one would keep us forever.
		if response.NextPage <= o.Page || len(groups) >= maxGroups || len(some) == 0 {
			return groups[:min(len(groups), maxGroups)], nil
		}
		o.Page = response.NextPage
	}
}

// judge turns an error of the library into a refusal or errs.Unavailable. The texts of
// answers are GitLab's and are not passed on.
func (r reader) judge(err error, what string) error {
	var (
		status  int
		message string
		answer  *gitlab.ErrorResponse
	)
	switch {
	case errors.Is(err, gitlab.ErrNotFound):
		status = http.StatusNotFound
	case errors.As(err, &answer) && answer.Response != nil:
		status, message = answer.Response.StatusCode, strings.ToLower(answer.Message)
	default:
		return r.provider.Unreachable(err)
	}
	switch status {
	case http.StatusUnauthorized:
		return r.refuse(authcode.Code, r.info.Title+" does not accept its own token: it has been revoked")
	case http.StatusForbidden:
		for _, state := range []string{"blocked", "deactivated", "pending approval", "locked"} {
			if strings.Contains(message, state) {
				return r.refuse(NotActive, "the account is not active at "+r.info.Title)
			}
		}
		fallthrough
	case http.StatusNotFound:
		return r.refuse(Scope, r.info.Title+" does not let the application read "+what+
			" (status "+strconv.Itoa(status)+"): it needs the scopes read_user and read_api")
	default:
		return r.provider.Status(status)
	}
}

// attributes are what the page for testing a connector shows.
func attributes(x identity.External, scope string) map[string][]string {
	a := map[string][]string{"id": {x.Subject}, "username": {x.Login}, "scope": {scope}}
	if x.Name != "" {
		a["name"] = []string{x.Name}
	}
	if x.Email != "" {
		a["email"] = []string{x.Email}
	}
	for _, g := range x.Groups {
		a["group"] = append(a["group"], g.Path)
	}
	return a
}
