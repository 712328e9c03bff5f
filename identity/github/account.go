package github

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/google/go-github/v60/github"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/authcode"
)

// maxGroups is how many organizations and teams of a person are read.
const maxGroups = 500

const perPage = 100

// reader reads the account of one token.
type reader struct {
	*Connector
	client *github.Client
	token  authcode.Token
}

// read returns the account that a token is for. The error is a *identity.Refusal, or
// errs.Unavailable.
func (c *Connector) read(ctx context.Context, token authcode.Token) (identity.External, error) {
	base, err := url.Parse(c.api)
	if err != nil {
		return identity.External{}, err
	}
	transport := *c.provider.HTTP()
	transport.Transport = bearer{transport.Transport, base.Host, token.Access}
	client := github.NewClient(&transport)
	client.BaseURL = base
	return reader{c, client, token}.external(ctx)
}

// bearer shows a token to one host. The library's own WithAuthToken would show it to
// whichever host a redirect leads to.
type bearer struct {
	next        http.RoundTripper
	host, token string
}

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host != b.host {
		return nil, errors.New("github: a call went to another host than the API's")
	}
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.token)
	if b.next == nil {
		return http.DefaultTransport.RoundTrip(r)
	}
	return b.next.RoundTrip(r)
}

func (r reader) external(ctx context.Context) (identity.External, error) {
	user, _, err := r.client.Users.Get(ctx, "")
	if err != nil {
		return identity.External{}, r.judge(err, "the account")
	}
	switch {
	case user.GetID() <= 0:
		return identity.External{}, r.provider.Unusable("an account without an ID")
	case user.SuspendedAt != nil:
		return identity.External{}, r.refuse(Suspended, "the account is suspended at "+r.info.Title)
	case user.GetType() != "User":
		return identity.External{}, r.refuse(NotAUser, "the account is no person's")
	}
	email, err := r.email(ctx)
	if err != nil {
		return identity.External{}, err
	}
	groups, err := r.groups(ctx)
	if err != nil {
		return identity.External{}, err
	}
	x := identity.External{
		Subject: strconv.FormatInt(user.GetID(), 10),
		Login:   user.GetLogin(),
		Name:    user.GetName(),
		Email:   email, EmailVerified: email != "",
		Groups:     groups,
		Credential: r.token.Credential(),
	}
	if u, err := url.Parse(user.GetAvatarURL()); err == nil && u.Scheme == "https" {
		x.AvatarURL = user.GetAvatarURL()
	}
	x.Attributes = attributes(x, r.token.Scope)
	return x, nil
}

// email returns the address that is primary and verified, or "". The one of the
// profile may be any that the person has chosen to show.
func (r reader) email(ctx context.Context) (string, error) {
	addresses, err := all(func(o github.ListOptions) ([]*github.UserEmail, *github.Response, error) {
		return r.client.Users.ListEmails(ctx, &o)
	})
	if err != nil {
		return "", r.judge(err, "the e-mail addresses")
	}
	for _, a := range addresses {
		if a.GetPrimary() && a.GetVerified() {
			return a.GetEmail(), nil
		}
	}
	return "", nil
}

// groups returns the organizations that the person is an active member of, then the
// teams in those. A person who is in none of the organizations that let people in is
// refused.
func (r reader) groups(ctx context.Context) ([]identity.Group, error) {
	memberships, err := all(func(o github.ListOptions) ([]*github.Membership, *github.Response, error) {
		return r.client.Organizations.ListOrgMemberships(ctx, &github.ListOrgMembershipsOptions{State: "active", ListOptions: o})
	})
	if err != nil {
		return nil, r.judge(err, "the organizations")
	}
	groups := make([]identity.Group, 0, len(memberships))
	logins := make(map[int64]string, len(memberships))
	for _, m := range memberships {
		o := m.GetOrganization()
		if m.GetState() != "active" || o.GetID() <= 0 {
			continue
		}
		logins[o.GetID()] = o.GetLogin()
		groups = append(groups, identity.Group{
			ID: organizationID(o), Path: o.GetLogin(), Name: o.GetName(), Admin: m.GetRole() == "admin",
		})
	}
	if !r.admitted(groups) {
		return nil, r.refuse(NotAMember, "the account is no active member of "+strings.Join(r.organizations, ", ")+
			"; an organization may also have to approve the application, or want a sign-in of its own first")
	}
	if len(groups) == 0 || len(groups) >= maxGroups {
		return groups, nil
	}
	teams, err := all(func(o github.ListOptions) ([]*github.Team, *github.Response, error) {
		return r.client.Teams.ListUserTeams(ctx, &o)
	})
	if err != nil {
		return nil, r.judge(err, "the teams")
	}
	for _, t := range teams {
		login, active := logins[t.GetOrganization().GetID()]
		if !active || t.GetID() <= 0 {
			continue
		}
		groups = append(groups, identity.Group{
			ID: "team:" + strconv.FormatInt(t.GetID(), 10), Path: login + "/" + t.GetSlug(), Name: t.GetName(),
			Parent: organizationID(t.GetOrganization()),
		})
	}
	return groups[:min(len(groups), maxGroups)], nil
}

func organizationID(o *github.Organization) string { return "org:" + strconv.FormatInt(o.GetID(), 10) }

// admitted reports whether one of the organizations lets the person in.
func (c *Connector) admitted(organizations []identity.Group) bool {
	return len(c.organizations) == 0 || slices.ContainsFunc(organizations, func(g identity.Group) bool {
		return slices.ContainsFunc(c.organizations, func(login string) bool { return strings.EqualFold(login, g.Path) })
	})
}

// all reads the pages of a list, up to maxGroups entries.
func all[T any](list func(github.ListOptions) ([]T, *github.Response, error)) ([]T, error) {
	var entries []T
	for page := 1; ; {
		some, response, err := list(github.ListOptions{Page: page, PerPage: perPage})
		if err != nil {
			return nil, err
		}
		entries = append(entries, some...)
		// A server whose next page is an earlier one would keep us forever.
		if response.NextPage <= page || len(entries) >= maxGroups || len(some) == 0 {
			return entries[:min(len(entries), maxGroups)], nil
		}
		page = response.NextPage
	}
}

// judge turns an error of the library into a refusal or errs.Unavailable. The texts of
// answers are GitHub's and are not passed on.
func (r reader) judge(err error, what string) error {
	var (
		limit     *github.RateLimitError
		secondary *github.AbuseRateLimitError
		answer    *github.ErrorResponse
	)
	switch {
	case errors.As(err, &limit), errors.As(err, &secondary):
		return r.provider.Status(http.StatusTooManyRequests)
	case !errors.As(err, &answer) || answer.Response == nil:
		return r.provider.Unreachable(err)
	}
	switch status := answer.Response.StatusCode; status {
	case http.StatusUnauthorized:
		return r.refuse(authcode.Code, r.info.Title+" does not accept its own token: it has been revoked")
	case http.StatusForbidden:
		if strings.Contains(strings.ToLower(answer.Message), "suspended") {
			return r.refuse(Suspended, "the account is suspended at "+r.info.Title)
		}
		fallthrough
	case http.StatusNotFound:
		return r.refuse(Scope, r.info.Title+" does not let the application read "+what+
			" (status "+strconv.Itoa(status)+"): it needs the scopes read:user, user:email and read:org")
	default:
		return r.provider.Status(status)
	}
}

// attributes are what the page for testing a connector shows.
func attributes(x identity.External, scope string) map[string][]string {
	a := map[string][]string{"id": {x.Subject}, "login": {x.Login}, "scope": {scope}}
	if x.Name != "" {
		a["name"] = []string{x.Name}
	}
	if x.Email != "" {
		a["email"] = []string{x.Email}
	}
	for _, g := range x.Groups {
		kind := "organization"
		if g.Parent != "" {
			kind = "team"
		}
		a[kind] = append(a[kind], g.Path)
	}
	return a
}
