package oidc_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/identity/oidc"
	"github.com/ipuka/ipuka/identity/oidc/oidctest"
	"github.com/ipuka/ipuka/internal/errs"
)

// Whom the provider vouches for: OAU-13, OAU-18.
func TestEmail(t *testing.T) {
	p := oidctest.Start(t)
	c := connector(t, p, nil)
	for _, test := range []struct {
		email, verified any
		want            string
		vouched         bool
	}{
		{"alice@acme.test", true, "alice@acme.test", true},
		{"alice@acme.test", "true", "alice@acme.test", true},
		{"alice@acme.test", false, "alice@acme.test", false},
		{"alice@acme.test", "false", "alice@acme.test", false},
		{"alice@acme.test", nil, "alice@acme.test", false},
		{"alice@acme.test", 1, "alice@acme.test", false},
		{"alice@acme.test", "1", "alice@acme.test", false},
		{"alice@acme.test", "TRUE", "alice@acme.test", false},
		{"alice@acme.test", []bool{true}, "alice@acme.test", false},
		{"a@evil.test@acme.test", true, "", false},
		{`"a@acme.test"@evil.test`, true, "", false},
		{"a@acme.test\n", true, "", false},
		{"a@acme.test\x00", true, "", false},
		{"a@ａｃｍｅ.test", true, "", false},
		{"ı@acme.test", true, "", false},
		{"a@", true, "", false},
		{"@acme.test", true, "", false},
		{"a@acme..test", true, "", false},
		{"a@-acme.test", true, "", false},
		{strings.Repeat("a", 250) + "@acme.test", true, "", false},
		{nil, true, "", false},
		{[]string{"alice@acme.test"}, true, "", false},
	} {
		p.SetClaim("alice", "email", test.email)
		p.SetClaim("alice", "email_verified", test.verified)
		x, err := arrive(t, c, p, "alice")
		if err != nil || x.Email != test.want || x.EmailVerified != test.vouched {
			t.Errorf("%v, %v: got %q, %v; %v", test.email, test.verified, x.Email, x.EmailVerified, err)
		}
	}
}

func TestAllowedDomains(t *testing.T) {
	p := oidctest.Start(t)
	c := connector(t, p, func(c *oidc.Config) { c.AllowedDomains = []string{"Acme.test", "xn--80ak6aa92e.test"} })
	for _, test := range []struct {
		email, verified, hd any
		reason              string
	}{
		{"a@acme.test", true, nil, ""},
		{"A@ACME.TEST", true, nil, ""},
		{"a@xn--80ak6aa92e.test", true, nil, ""},
		{"a@acme.test", false, nil, "oidc_domain"},
		{"a@acme.test", nil, nil, "oidc_domain"},
		{"a@acme.test", 1, nil, "oidc_domain"},
		{"a@evil.test", true, nil, "oidc_domain"},
		{"a@acme.test.evil.test", true, nil, "oidc_domain"},
		{"a@sub.acme.test", true, nil, "oidc_domain"},
		{"a@evilacme.test", true, nil, "oidc_domain"},
		{"a@evil.test@acme.test", true, nil, "oidc_claims"},
		{"a@acme.test@evil.test", true, nil, "oidc_claims"},
		{`"a@acme.test"@evil.test`, true, nil, "oidc_claims"},
		{"a@acme.test\n", true, nil, "oidc_claims"},
		{"a@acme．test", true, nil, "oidc_claims"},
		{"a@аcme.test", true, nil, "oidc_claims"}, // Cyrillic
		{nil, true, nil, "oidc_claims"},
		{"a@elsewhere.test", true, "acme.test", ""},
		{nil, nil, "acme.test", ""},
		{"a@elsewhere.test", true, "evil.test", "oidc_domain"},
		{"a@elsewhere.test", true, []string{"acme.test"}, "oidc_domain"},
	} {
		for name, value := range map[string]any{"email": test.email, "email_verified": test.verified, "hd": test.hd} {
			p.SetClaim("alice", name, value)
		}
		_, err := arrive(t, c, p, "alice")
		if test.reason != "" {
			refused(t, err, test.reason)
		} else if err != nil {
			t.Errorf("%v %v %v: %v", test.email, test.verified, test.hd, err)
		}
	}
}

// Google vouches for addresses of any domain, also of people whom the domain's owner
// has never seen.
func TestGoogle(t *testing.T) {
	c, err := oidc.New(oidc.Config{Name: "corp", Issuer: "https://accounts.google.com", ClientID: "x", AllowedDomains: []string{"acme.test", "gmail.com"}})
	if err != nil {
		t.Fatal(err)
	}
	claims := map[string]any{"email": "alice@acme.test", "email_verified": true}
	refused(t, c.Admit(claims), "oidc_domain")
	claims["hd"] = "acme.test"
	if err := c.Admit(claims); err != nil {
		t.Error(err)
	}
	if err := c.Admit(map[string]any{"email": "alice@gmail.com", "email_verified": true}); err != nil {
		t.Error(err)
	}
}

// Another tenant's token with a victim's address (nOAuth): OAU-14.
func TestAllowedTenants(t *testing.T) {
	const ours = "9188040d-6c67-4c5b-b112-36a304b66dad"
	p := oidctest.Start(t)
	c := connector(t, p, func(c *oidc.Config) { c.AllowedTenants = []string{ours} })
	for _, test := range []struct {
		tid    any
		reason string
	}{
		{ours, ""}, {"00000000-0000-0000-0000-000000000000", "oidc_tenant"}, {nil, "oidc_claims"}, {"", "oidc_claims"}, {[]string{ours}, "oidc_claims"},
	} {
		p.SetClaim("alice", "tid", test.tid)
		_, err := arrive(t, c, p, "alice")
		if test.reason != "" {
			refused(t, err, test.reason)
		} else if err != nil {
			t.Error(err)
		}
	}
	// Without the setting the subject is what counts, whatever the address.
	open := connector(t, p, nil)
	p.SetClaim("bob", "email", "alice@acme.test")
	alice, err := arrive(t, open, p, "alice")
	if err != nil {
		t.Fatal(err)
	}
	if bob, err := arrive(t, open, p, "bob"); err != nil || bob.Subject == alice.Subject {
		t.Errorf("two people with one address are one: %v, %v", bob.Subject, err)
	}
}

func TestGroups(t *testing.T) {
	p := oidctest.Start(t)
	c := connector(t, p, nil)
	many := make([]any, 600)
	for i := range many {
		many[i] = fmt.Sprint("g", i)
	}
	for _, test := range []struct {
		name   string
		groups any
		more   map[string]any
		want   string
	}{
		{"list", []any{"a", "b"}, nil, "[a b]"},
		{"one", "a", nil, "[a]"},
		{"none", []any{}, nil, "[]"},
		{"not said", nil, nil, "nil"},
		{"null", map[string]any(nil), nil, "nil"},
		{"object", map[string]any{"a": true}, nil, "nil"},
		{"number", 7, nil, "nil"},
		{"mixed", []any{"a", 1, nil, "", "a", []any{"b"}, "b\n", strings.Repeat("c", 256)}, nil, "[a]"},
		{"elsewhere", nil, map[string]any{"_claim_names": map[string]any{"groups": "src1"}, "_claim_sources": map[string]any{"src1": map[string]any{"endpoint": "https://graph.test"}}}, "nil"},
		{"elsewhere and here", []any{"a"}, map[string]any{"_claim_names": map[string]any{"groups": "src1"}, "_claim_sources": map[string]any{"src1": map[string]any{"endpoint": "https://graph.test"}}}, "nil"},
	} {
		p.SetClaim("alice", "groups", test.groups)
		for _, name := range []string{"_claim_names", "_claim_sources"} {
			p.SetClaim("alice", name, test.more[name])
		}
		x, err := arrive(t, c, p, "alice")
		got := "nil"
		if x.Groups != nil {
			ids := []string{}
			for _, g := range x.Groups {
				ids = append(ids, g.ID)
			}
			got = fmt.Sprint(ids)
		}
		if err != nil || got != test.want {
			t.Errorf("%s: got %s, want %s; %v %s", test.name, got, test.want, err, detail(err))
		}
		if note := fmt.Sprint(x.Attributes["groups"]); (test.more != nil) != strings.Contains(note, "too many for the ID token") {
			t.Errorf("%s: the administrator is told %s", test.name, note)
		}
	}
	for _, name := range []string{"_claim_names", "_claim_sources"} {
		p.SetClaim("alice", name, nil)
	}
	p.SetClaim("alice", "groups", many)
	if x, err := arrive(t, c, p, "alice"); err != nil || len(x.Groups) != 500 {
		t.Errorf("%d of 600 groups; %v", len(x.Groups), err)
	}
	without := connector(t, p, func(c *oidc.Config) { c.GroupsClaim = "" })
	if x, err := arrive(t, without, p, "alice"); err != nil || x.Groups != nil {
		t.Errorf("groups without a claim for them: %v, %v", x.Groups, err)
	}
}

func TestProfile(t *testing.T) {
	p := oidctest.Start(t)
	for claim, test := range map[string]struct{ value, login, name, avatar any }{
		"preferred_username": {"alice@acme.test", "alice", "Alice Adams", "https://acme.test/alice.png"},
		"name":               {"Alice\u202e\n Adams", "alice", "Alice Adams", "https://acme.test/alice.png"},
		"picture":            {"javascript:alert(1)", "alice", "Alice Adams", ""},
		"nick":               {"al", "alice", "Alice Adams", "https://acme.test/alice.png"},
	} {
		before := oidctest.Start(t)
		before.SetClaim("alice", claim, test.value)
		x, err := arrive(t, connector(t, before, nil), before, "alice")
		if err != nil || x.Login != test.login || x.Name != test.name || x.AvatarURL != test.avatar {
			t.Errorf("%s: got %+v, %v", claim, x, err)
		}
	}
	for _, picture := range []string{"http://acme.test/a.png", "https:///a.png", "//acme.test/a.png", "https://a:b@acme.test/", "https://acme.test/" + strings.Repeat("a", 3000)} {
		p.SetClaim("alice", "picture", picture)
		if x, err := arrive(t, connector(t, p, nil), p, "alice"); err != nil || x.AvatarURL != "" {
			t.Errorf("got %s, %v", x.AvatarURL, err)
		}
	}
	p.SetClaim("alice", "nick", "al")
	c := connector(t, p, func(c *oidc.Config) { c.LoginClaim, c.Title, c.SignUp = "nick", "Acme", true })
	if x, err := arrive(t, c, p, "alice"); err != nil || x.Login != "al" {
		t.Errorf("got %s, %v", x.Login, err)
	}
	if i := c.Info(); i != (identity.ConnectorInfo{Name: "corp", Kind: identity.KindOIDC, Title: "Acme", SignUp: true, Issuer: p.Issuer}) {
		t.Errorf("got %+v", i)
	}
}

// offline asks for refresh tokens.
func offline(c *oidc.Config) { c.Scopes = []string{"openid", "profile", "email", "offline_access"} }

// What leaves with a person is the refresh token, when there is one, and no access
// token: OAU-39.
func TestCredential(t *testing.T) {
	p := oidctest.Start(t)
	var tokens []string
	p.Set(func(k *oidctest.Knobs) {
		k.Response = func(r map[string]any) {
			tokens = append(tokens, r["access_token"].(string), r["id_token"].(string))
		}
	})
	if x, err := arrive(t, connector(t, p, nil), p, "alice"); err != nil || x.Credential != nil {
		t.Errorf("a credential that was not asked for: %q, %v", x.Credential, err)
	}
	x, err := arrive(t, connector(t, p, offline), p, "alice")
	if err != nil || len(x.Credential) == 0 {
		t.Errorf("no credential: %v", err)
	}
	for _, token := range tokens {
		if strings.Contains(fmt.Sprintf("%+v %s", x, x.Credential), token) {
			t.Error("a token left")
		}
	}
}

func TestRecheck(t *testing.T) {
	ctx := context.Background()
	for _, test := range []struct {
		name   string
		config func(*oidc.Config)
		change func(*oidctest.Provider)
		want   error // nil, identity.ErrWithdrawn, errs.Unavailable or errs.Unauthenticated
	}{
		{name: "as before"},
		{name: "withdrawn", change: func(p *oidctest.Provider) { p.Withdraw("alice") }, want: identity.ErrWithdrawn},
		{
			name: "left the domain", config: func(c *oidc.Config) { c.AllowedDomains = []string{"acme.test"} },
			change: func(p *oidctest.Provider) { p.SetClaim("alice", "email", "alice@evil.test") }, want: identity.ErrWithdrawn,
		},
		{
			name: "another subject", change: func(p *oidctest.Provider) { p.SetClaim("alice", "sub", "admin") }, want: identity.ErrWithdrawn,
		},
		{
			name: "no address any more", config: func(c *oidc.Config) { c.AllowedDomains = []string{"acme.test"} },
			change: func(p *oidctest.Provider) { p.SetClaim("alice", "email", nil) }, want: errs.Unauthenticated,
		},
		{name: "down", change: func(p *oidctest.Provider) { p.Set(instead("/token", down)) }, want: errs.Unavailable},
		{
			name: "wrong signature", want: errs.Unauthenticated,
			change: func(p *oidctest.Provider) {
				p.Set(func(k *oidctest.Knobs) {
					k.Token = rewrite(1, func(c map[string]any) { c["groups"] = []string{"admins"} })
				})
			},
		},
		{
			name: "userinfo only",
			change: func(p *oidctest.Provider) {
				p.Set(func(k *oidctest.Knobs) { k.Response = func(r map[string]any) { delete(r, "id_token") } })
			},
		},
		{
			name: "userinfo of another", want: errs.Unauthenticated,
			change: func(p *oidctest.Provider) {
				p.Set(func(k *oidctest.Knobs) {
					k.Response = func(r map[string]any) { delete(r, "id_token") }
					k.Userinfo = func(c map[string]any) { c["sub"] = "admin" }
				})
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := oidctest.Start(t)
			c := connector(t, p, func(config *oidc.Config) {
				offline(config)
				if test.config != nil {
					test.config(config)
				}
			})
			first, err := arrive(t, c, p, "alice")
			if err != nil {
				t.Fatal(err)
			}
			p.SetClaim("alice", "groups", []any{"platform"})
			if test.change != nil {
				test.change(p)
			}
			x, err := c.Recheck(ctx, first.Subject, first.Credential)
			if test.want != nil {
				if !errors.Is(err, test.want) || x.Subject != "" || errors.Is(test.want, identity.ErrWithdrawn) != errors.Is(err, identity.ErrWithdrawn) {
					t.Errorf("got %+v, %v", x, err)
				}
				return
			}
			if err != nil || x.Subject != first.Subject || len(x.Groups) != 1 || x.Email != "alice@acme.test" || !x.EmailVerified {
				t.Fatalf("got %+v, %v", x, err)
			}
			if string(x.Credential) == string(first.Credential) || len(x.Credential) == 0 {
				t.Error("the new refresh token is not handed on")
			}
			if _, err := c.Recheck(ctx, first.Subject, x.Credential); err != nil {
				t.Errorf("the new refresh token does not work: %v", err)
			}
		})
	}

	t.Run("says nothing", func(t *testing.T) {
		p := oidctest.Start(t)
		c := connector(t, p, func(c *oidc.Config) { offline(c); c.AllowedDomains = []string{"acme.test"} })
		p.Set(func(k *oidctest.Knobs) { k.Discovery = func(m map[string]any) { delete(m, "userinfo_endpoint") } })
		first, err := arrive(t, c, p, "alice")
		if err != nil {
			t.Fatal(err)
		}
		p.Set(func(k *oidctest.Knobs) {
			k.Response = func(r map[string]any) { delete(r, "id_token"); delete(r, "refresh_token") }
		})
		x, err := c.Recheck(ctx, first.Subject, first.Credential)
		if err != nil || x.Subject != first.Subject || x.Groups != nil || string(x.Credential) != string(first.Credential) {
			t.Errorf("got %+v, %v", x, err)
		}
		if _, err := c.Recheck(ctx, first.Subject, nil); err == nil || errors.Is(err, identity.ErrWithdrawn) {
			t.Errorf("without a credential: %v", err)
		}
	})
}
