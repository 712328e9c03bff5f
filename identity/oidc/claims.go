package oidc

import (
	"context"
	"maps"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/httpapi"
)

const (
	maxGroups     = 500 // that are looked at
	maxGroup      = 255 // bytes of a group's name
	maxName       = 200
	maxEmail      = 254
	maxAvatar     = 2048
	maxAttributes = 100 // that the page for tests shows
)

// claims are what a provider says of somebody. Names that differ in case are different
// ones, and none is there twice.
type claims map[string]any

func decodeClaims(text []byte) (claims, error) {
	var c claims
	if err := httpapi.Decode(text, &c); err != nil || c == nil {
		return nil, refusal("oidc_malformed", "the claims of the ID token are not JSON, or some are there twice")
	}
	return c, nil
}

// text returns a claim that is a string, and "" for any other.
func (c claims) text(name string) string {
	s, _ := c[name].(string)
	return s
}

// list returns the strings of a claim that is one or has some.
func (c claims) list(name string) []string {
	switch v := c[name].(type) {
	case string:
		return []string{v}
	case []any:
		var list []string
		for _, item := range v {
			if s, ok := item.(string); ok {
				list = append(list, s)
			}
		}
		return list
	}
	return nil
}

// time returns a claim that is a number of seconds since 1970 (RFC 7519 §2).
func (c claims) time(name string) (time.Time, bool) {
	seconds, ok := c[name].(float64)
	if !ok || math.Abs(seconds) > 1<<40 {
		return time.Time{}, false
	}
	return time.Unix(int64(seconds), 0), true
}

// verified reports whether the provider vouches for the address: true, or "true" as
// Amazon Cognito documents it.
func (c claims) verified() bool {
	v := c["email_verified"]
	return v == true || v == "true"
}

// overage reports whether a claim is elsewhere (Core §5.6.2), as Microsoft Entra does
// with the groups of people who are in many.
func (c claims) overage(name string) bool {
	names, _ := c["_claim_names"].(map[string]any)
	_, there := names[name]
	return there
}

// complement asks the userinfo endpoint (Core §5.3) for what the ID token lacks. What
// the token says stays.
func (c *Connector) complement(ctx context.Context, m *metadata, known claims, accessToken string) (claims, error) {
	groups := c.config.GroupsClaim
	_, haveGroups := known[groups]
	if m.Userinfo == "" || known.text("email") != "" && known.text(c.config.LoginClaim) != "" && known.text("name") != "" &&
		(groups == "" || haveGroups || known.overage(groups)) {
		return known, nil
	}
	body, err := c.read(ctx, m.Userinfo, accessToken, "userinfo")
	if err != nil {
		return nil, err
	}
	more, err := decodeClaims(body)
	if err != nil {
		return nil, refusal("oidc_userinfo", "the provider's userinfo is not a JSON object: set it to be unsigned")
	}
	// Core §5.3.2: without this another's data could be put in place of theirs.
	if more.text("sub") != known.text("sub") {
		return nil, refusal("oidc_userinfo", "the provider's userinfo is about another subject than the ID token")
	}
	all := maps.Clone(known)
	for name, value := range more {
		if _, there := known[name]; !there {
			all[name] = value
		}
	}
	// What vouches for one address does not vouch for another.
	if email := known.text("email"); email != "" && email != more.text("email") {
		delete(all, "email_verified")
		if v, there := known["email_verified"]; there {
			all["email_verified"] = v
		}
	} else if email == "" {
		delete(all, "email_verified")
		for _, name := range []string{"email", "email_verified"} {
			if v, there := more[name]; there {
				all[name] = v
			}
		}
	}
	return all, nil
}

// external returns whom the claims tell of, when they may come in.
func (c *Connector) external(all claims, refresh string) (identity.External, error) {
	if err := c.admit(all); err != nil {
		return identity.External{}, err
	}
	login, _, _ := strings.Cut(all.text(c.config.LoginClaim), "@")
	x := identity.External{
		Subject: all.text("sub"), Login: httpapi.Clean(login, maxName), Name: httpapi.Clean(all.text("name"), maxName),
		AvatarURL: avatar(all.text("picture")), Attributes: c.attributes(all),
	}
	if email := all.text("email"); domainOf(email) != "" {
		x.Email, x.EmailVerified = email, all.verified()
	}
	if name := c.config.GroupsClaim; name != "" {
		x.Groups = groups(all, name)
	}
	if refresh != "" {
		x.Credential = []byte(refresh)
	}
	return x, nil
}

// admit keeps out whom the operator does not want. Who may be in a tenant, or has an
// address of a domain, is what the provider vouches for, never what people say.
func (c *Connector) admit(all claims) error {
	tenant := all.text("tid")
	if len(c.config.AllowedTenants) > 0 && tenant == "" {
		return refusal("oidc_claims", "the provider does not say of which tenant the person is (tid)")
	}
	if len(c.config.AllowedTenants) > 0 && !slices.Contains(c.config.AllowedTenants, tenant) {
		return refusal("oidc_tenant", "the tenant %s is not one of those that are allowed", shown(tenant))
	}
	if len(c.config.AllowedDomains) == 0 {
		return nil
	}
	if hosted := strings.ToLower(all.text("hd")); hosted != "" && slices.Contains(c.config.AllowedDomains, hosted) {
		return nil
	}
	domain := domainOf(all.text("email"))
	switch {
	case domain == "":
		return refusal("oidc_claims", "the provider names no e-mail address, or none that is well formed")
	case !slices.Contains(c.config.AllowedDomains, domain):
		return refusal("oidc_domain", "the domain %s is not one of those that are allowed", shown(domain))
	case !all.verified():
		return refusal("oidc_domain", "the provider does not vouch for the e-mail address (email_verified)")
	case c.config.Issuer == google && domain != "gmail.com":
		// Google verifies addresses of any domain for personal accounts; only hd says
		// that the domain's owner manages the account.
		return refusal("oidc_domain", "the account is not managed by the domain %s (hd)", shown(domain))
	}
	return nil
}

const google = "https://accounts.google.com"

// domainOf returns the domain of an address in its one canonical form, and "" for
// what two readers could read differently.
func domainOf(address string) string {
	local, domain, ok := strings.Cut(address, "@")
	if !ok || local == "" || len(address) > maxEmail {
		return ""
	}
	for _, c := range local {
		if c <= ' ' || c >= 0x7f || strings.ContainsRune(`"(),:;<>@[\]`, c) {
			return ""
		}
	}
	domain = strings.ToLower(domain)
	for label := range strings.SplitSeq(domain, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return ""
		}
		for _, c := range label {
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
				return ""
			}
		}
	}
	return domain
}

func avatar(address string) string {
	u, err := url.Parse(address)
	if err != nil || len(address) > maxAvatar || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return ""
	}
	return u.String()
}

// groups returns the groups of a claim: nil when the provider does not say.
func groups(all claims, name string) []identity.Group {
	value, there := all[name]
	if _, one := value.(string); !there || !one && !isList(value) || all.overage(name) {
		return nil
	}
	out := []identity.Group{}
	seen := map[string]bool{}
	for _, group := range all.list(name) {
		if group == "" || len(group) > maxGroup || seen[group] || httpapi.Clean(group, maxGroup) != group {
			continue
		}
		if seen[group] = true; len(seen) > maxGroups {
			break
		}
		out = append(out, identity.Group{ID: group, Path: group, Name: group})
	}
	return out
}

func isList(value any) bool {
	_, ok := value.([]any)
	return ok
}

// hidden are claims that say nothing about the person.
var hidden = []string{"nonce", "at_hash", "c_hash", "s_hash", "jti", "sid", "_claim_names", "_claim_sources"}

// attributes returns the claims for the page on which an administrator tests.
func (c *Connector) attributes(all claims) map[string][]string {
	out := map[string][]string{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if slices.Contains(hidden, name) || len(out) == maxAttributes {
			continue
		}
		items, ok := all[name].([]any)
		if !ok {
			items = []any{all[name]}
		}
		values := []string{}
		for _, item := range items[:min(len(items), maxGroups)] {
			values = append(values, httpapi.Clean(display(item), maxGroup))
		}
		out[httpapi.Clean(name, maxName)] = values
	}
	if name := c.config.GroupsClaim; name != "" && all.overage(name) {
		out[name] = []string{"(too many for the ID token: the provider keeps them elsewhere, so groups change nothing; let it send only the groups that are assigned to this application)"}
	}
	return out
}

func display(value any) string {
	switch v := value.(type) {
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	text, err := json.Marshal(value, json.Deterministic(true))
	if err != nil {
		return ""
	}
	return string(text)
}
