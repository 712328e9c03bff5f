package atlassian

import (
	"context"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/ipuka/ipuka/identity"
)

// isTrue reports whether a member of an answer is the boolean true. A string or a
// number is not, whatever it says.
func isTrue(v jsontext.Value) bool { return string(v) == "true" }

// atlassianAccount reads who a token is for at Atlassian.
func atlassianAccount(ctx context.Context, c caller) (identity.External, error) {
	var me struct {
		AccountID     string         `json:"account_id"`
		AccountType   string         `json:"account_type"`
		AccountStatus string         `json:"account_status"`
		Email         string         `json:"email"`
		EmailVerified jsontext.Value `json:"email_verified"`
		Name          string         `json:"name"`
		Nickname      string         `json:"nickname"`
		Picture       string         `json:"picture"`
	}
	if err := c.call(ctx, c.api+"/me", &me); err != nil {
		return identity.External{}, err
	}
	switch {
	case me.AccountID == "":
		return identity.External{}, c.provider.Unusable("an account without an ID")
	case me.AccountStatus != "active":
		return identity.External{}, c.refuse(NotActive, "the account is not active at "+c.info.Title)
	case me.AccountType != "" && me.AccountType != "atlassian":
		return identity.External{}, c.refuse(NotAUser, "the account is no person's Atlassian account")
	}
	return identity.External{
		Subject: me.AccountID, Login: me.Nickname, Name: me.Name,
		Email: me.Email, EmailVerified: me.Email != "" && isTrue(me.EmailVerified),
		AvatarURL: me.Picture,
	}, nil
}

// maxGroups is how many workspaces of a person are read.
const maxGroups = 500

// page is a page of one of Bitbucket's lists.
type page[T any] struct {
	Values []T    `json:"values"`
	Next   string `json:"next"`
}

// all reads the pages of a list, up to maxGroups entries. The next page is where
// Bitbucket says it is, if that is the same list.
func all[T any](ctx context.Context, c caller, path string) ([]T, error) {
	var entries []T
	list := c.api + path + "?"
	next := list + "pagelen=100"
	for range maxGroups { // pages may be empty, or the next one be the same
		var p page[T]
		if err := c.call(ctx, next, &p); err != nil {
			return nil, err
		}
		entries = append(entries, p.Values...)
		if p.Next == "" || len(entries) >= maxGroups {
			return entries[:min(len(entries), maxGroups)], nil
		}
		if !strings.HasPrefix(p.Next, list) || p.Next == next {
			return nil, c.provider.Unusable("a list whose next page is no page of it")
		}
		next = p.Next
	}
	return nil, c.provider.Unusable("a list without an end")
}

// bitbucketAccount reads who a token is for at Bitbucket.
func bitbucketAccount(ctx context.Context, c caller) (identity.External, error) {
	var user struct {
		UUID          string `json:"uuid"`
		Type          string `json:"type"`
		Username      string `json:"username"`
		Nickname      string `json:"nickname"`
		DisplayName   string `json:"display_name"`
		AccountStatus string `json:"account_status"`
		Links         struct {
			Avatar struct {
				Href string `json:"href"`
			} `json:"avatar"`
		} `json:"links"`
	}
	if err := c.call(ctx, c.api+"/2.0/user", &user); err != nil {
		return identity.External{}, err
	}
	switch {
	case user.UUID == "":
		return identity.External{}, c.provider.Unusable("an account without an ID")
	case user.AccountStatus != "" && user.AccountStatus != "active":
		return identity.External{}, c.refuse(NotActive, "the account is not active at "+c.info.Title)
	case user.Type != "user":
		return identity.External{}, c.refuse(NotAUser, "the account is no person's")
	}
	x := identity.External{Subject: user.UUID, Login: user.Nickname, Name: user.DisplayName, AvatarURL: user.Links.Avatar.Href}
	if user.Username != "" {
		x.Login = user.Username
	}
	var err error
	if x.Email, err = bitbucketEmail(ctx, c); err != nil {
		return identity.External{}, err
	}
	x.EmailVerified = x.Email != ""
	x.Groups, err = bitbucketWorkspaces(ctx, c)
	return x, err
}

// bitbucketEmail returns the address that is primary and confirmed, or "".
func bitbucketEmail(ctx context.Context, c caller) (string, error) {
	addresses, err := all[struct {
		Email     string         `json:"email"`
		Primary   jsontext.Value `json:"is_primary"`
		Confirmed jsontext.Value `json:"is_confirmed"`
	}](ctx, c, "/2.0/user/emails")
	if err != nil {
		return "", err
	}
	for _, a := range addresses {
		if isTrue(a.Primary) && isTrue(a.Confirmed) {
			return a.Email, nil
		}
	}
	return "", nil
}

// bitbucketWorkspaces returns the workspaces that the person is in.
func bitbucketWorkspaces(ctx context.Context, c caller) ([]identity.Group, error) {
	found, err := all[struct {
		Administrator jsontext.Value `json:"administrator"`
		Workspace     struct {
			UUID string `json:"uuid"`
			Slug string `json:"slug"`
			Name string `json:"name"`
		} `json:"workspace"`
	}](ctx, c, "/2.0/user/workspaces")
	if err != nil {
		return nil, err
	}
	groups := make([]identity.Group, 0, len(found))
	for _, f := range found {
		if f.Workspace.UUID != "" {
			groups = append(groups, identity.Group{
				ID: "workspace:" + f.Workspace.UUID, Path: f.Workspace.Slug, Name: f.Workspace.Name, Admin: isTrue(f.Administrator),
			})
		}
	}
	return groups, nil
}
