// Package oidc signs people in at an OpenID provider: the authorization code flow of
// OpenID Connect Core 1.0 with PKCE (RFC 7636, S256), state and nonce.
//
// The provider is found by its issuer (OpenID Connect Discovery), when somebody first
// needs it: a provider that cannot be reached delays nobody else, and not the start
// of the process. What it publishes is kept for an hour, and for a day while it does
// not answer; a failure is forgotten after ten seconds, within which it is not asked
// again. So is a key that nobody knows (Core §10.1.1).
//
// An ID token counts only when it is signed with RS256, PS256, ES256 or EdDSA by a key
// of the provider, by the issuer, for this client alone, for this flow (nonce), now,
// and for the access token that came with it. The account is the subject at this
// connector, which has one issuer; an e-mail address is never anything but that. Access
// tokens are dropped when Finish returns; a refresh token leaves as External.Credential
// and nowhere else.
package oidc

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	gooidc "github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/outbound"
)

// Config is what a Connector is made of.
type Config struct {
	Name   string // of the connector, such as "corp-okta"; it must never change
	Title  string // on the button; Name unless set
	Issuer string // exactly as the provider writes it in its tokens; https, or http on this machine

	ClientID     string
	ClientSecret string   // "" for a public client
	Scopes       []string // openid profile email unless set; offline_access lets Recheck work

	// Parameters are added to the request that the browser takes to the provider, such
	// as prompt=consent or access_type=offline, which some want for a refresh token.
	Parameters map[string]string

	GroupsClaim string // the claim with the groups, "" for none
	LoginClaim  string // preferred_username unless set

	// AllowedDomains lets in only people with a verified e-mail address, or an hd
	// claim, of one of these domains; none: everybody whom the provider lets in.
	AllowedDomains []string
	// AllowedTenants lets in only tokens whose tid claim (Microsoft Entra) is one of these.
	AllowedTenants []string

	SignUp bool             // makes accounts for those who have none
	Client *http.Client     // calls the provider: bounded, no redirects; a guarded one unless set
	Now    func() time.Time // for tests
}

// Connector signs people in at one provider. It is safe for concurrent use.
type Connector struct {
	config   Config
	metadata cached[*metadata]
	keys     keySet
	verifier *gooidc.IDTokenVerifier
}

var _ identity.Connector = (*Connector)(nil)

// algorithms are those that ID tokens may be signed with: asymmetric ones only, so that
// nothing public can be taken for a secret.
var algorithms = []string{gooidc.RS256, gooidc.PS256, gooidc.ES256, gooidc.EdDSA}

// New returns a connector. It calls nobody. The error is one line for the operator.
func New(c Config) (*Connector, error) {
	if err := c.complete(); err != nil {
		return nil, fmt.Errorf("sign-in with %q: %w", c.Name, err)
	}
	k := &Connector{config: c}
	k.metadata = cached[*metadata]{now: c.Now, fetch: k.discover}
	k.keys = keySet{cached: cached[[]key]{now: c.Now, fetch: k.fetchKeys}}
	k.verifier = gooidc.NewVerifier(c.Issuer, &k.keys, &gooidc.Config{
		ClientID: c.ClientID, SupportedSigningAlgs: algorithms, Now: c.Now,
	})
	return k, nil
}

var validName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// reserved are the parameters of the request that are the flow's.
var reserved = []string{
	"response_type", "response_mode", "client_id", "redirect_uri", "scope", "state", "nonce", "code_challenge",
	"code_challenge_method", "request", "request_uri", "claims", "max_age", "registration",
}

// complete fills in what is not set, and checks the rest.
func (c *Config) complete() error {
	if !validName.MatchString(c.Name) {
		return errors.New("its name must be of lower-case letters, digits and \"-\"")
	}
	if err := checkIssuer(c.Issuer); err != nil {
		return err
	}
	if c.ClientID == "" {
		return errors.New("the client ID is missing")
	}
	if c.Title == "" {
		c.Title = c.Name
	}
	if c.LoginClaim == "" {
		c.LoginClaim = "preferred_username"
	}
	if len(c.Scopes) == 0 {
		c.Scopes = []string{gooidc.ScopeOpenID, "profile", "email"}
	}
	if !slices.Contains(c.Scopes, gooidc.ScopeOpenID) {
		return errors.New("the scopes must include openid")
	}
	for name := range c.Parameters {
		if slices.Contains(reserved, name) {
			return fmt.Errorf("the parameter %s is not yours to set", name)
		}
	}
	c.AllowedDomains = slices.Clone(c.AllowedDomains)
	for i, domain := range c.AllowedDomains {
		if c.AllowedDomains[i] = strings.ToLower(domain); domainOf("x@"+domain) == "" {
			return fmt.Errorf("%q is not a domain", domain)
		}
	}
	if c.Client == nil {
		c.Client = outbound.Client(outbound.Options{})
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return nil
}

// checkIssuer admits the URL of one issuer (Discovery §3).
func checkIssuer(issuer string) error {
	if issuer == "" {
		return errors.New("the issuer is missing")
	}
	u, err := url.Parse(issuer)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.ForceQuery:
		return fmt.Errorf("the issuer %q is not a URL of scheme, host and path", issuer)
	case !trusted(u, true):
		return fmt.Errorf("the issuer %q must begin with https://", issuer)
	case strings.ContainsAny(issuer, "{}"), strings.EqualFold(u.Hostname(), "login.microsoftonline.com") && shared(u.Path):
		return fmt.Errorf("the issuer %q stands for many tenants: name yours, as in https://login.microsoftonline.com/TENANT-ID/v2.0", issuer)
	}
	return nil
}

// shared reports the paths by which Microsoft Entra serves everybody's accounts.
func shared(path string) bool {
	tenant, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	return slices.Contains([]string{"", "common", "organizations", "consumers"}, strings.ToLower(tenant))
}

// trusted reports whether u is safe from others on the way: https, or, where a server
// of this machine is allowed, http to it.
func trusted(u *url.URL, local bool) bool {
	if u.Scheme == "https" {
		return u.Host != ""
	}
	if u.Scheme != "http" || !local {
		return false
	}
	if a, err := netip.ParseAddr(u.Hostname()); err == nil {
		return a.IsLoopback()
	}
	return u.Hostname() == "localhost"
}

// Info describes the connector.
func (c *Connector) Info() identity.ConnectorInfo {
	return identity.ConnectorInfo{
		Name: c.config.Name, Kind: identity.KindOIDC, Title: c.config.Title, SignUp: c.config.SignUp, Issuer: c.config.Issuer,
	}
}

// Begin returns where the browser goes to sign in (Core §3.1.2.1).
func (c *Connector) Begin(ctx context.Context, f identity.Flow) (identity.Redirect, error) {
	if len(f.State) < 32 || len(f.Nonce) < 32 || len(f.Verifier) < 43 || f.Callback == "" {
		return identity.Redirect{}, errors.New("beginning a sign-in: the flow lacks a state, a nonce, a verifier or a callback")
	}
	m, err := c.metadata.get(ctx)
	if err != nil {
		return identity.Redirect{}, c.refuse(err)
	}
	var options []oauth2.AuthCodeOption
	for name, value := range c.config.Parameters {
		options = append(options, oauth2.SetAuthURLParam(name, value))
	}
	options = append(options, gooidc.Nonce(f.Nonce), oauth2.S256ChallengeOption(f.Verifier))
	if f.Fresh {
		options = append(options, oauth2.SetAuthURLParam("prompt", "login"), oauth2.SetAuthURLParam("max_age", "0"))
	}
	return identity.Redirect{URL: c.oauth(m, f.Callback).AuthCodeURL(f.State, options...)}, nil
}

func (c *Connector) oauth(m *metadata, callback string) *oauth2.Config {
	return &oauth2.Config{
		ClientID: c.config.ClientID, ClientSecret: c.config.ClientSecret, RedirectURL: callback, Scopes: c.config.Scopes,
		Endpoint: oauth2.Endpoint{AuthURL: m.Authorization, TokenURL: m.Token, AuthStyle: m.style(c.config.ClientSecret)},
	}
}

// client returns a context with which go-oidc and oauth2 use our client.
func (c *Connector) client(ctx context.Context) context.Context {
	return gooidc.ClientContext(ctx, c.config.Client)
}

// Finish judges the answer of the provider (Core §3.1.2.5 to §3.1.3.8).
func (c *Connector) Finish(ctx context.Context, f identity.Flow, r identity.Response) (identity.External, error) {
	x, err := c.finish(ctx, f, r)
	return x, c.refuse(err)
}

func (c *Connector) finish(ctx context.Context, f identity.Flow, r identity.Response) (identity.External, error) {
	m, err := c.metadata.get(ctx)
	if err != nil {
		return identity.External{}, err
	}
	code, err := c.code(f, r.Values, m)
	if err != nil {
		return identity.External{}, err
	}
	token, err := c.oauth(m, f.Callback).Exchange(c.client(ctx), code, oauth2.VerifierOption(f.Verifier))
	if err != nil {
		return identity.External{}, exchangeProblem(err)
	}
	raw, _ := token.Extra("id_token").(string)
	if raw == "" {
		return identity.External{}, refusal("oidc_no_id_token", "the provider's token response has no ID token: is openid among the scopes that the client may use?")
	}
	all, err := c.verify(ctx, raw, token.AccessToken)
	if err != nil {
		return identity.External{}, err
	}
	if err := c.checkFlow(all, f); err != nil {
		return identity.External{}, err
	}
	if all, err = c.complement(ctx, m, all, token.AccessToken); err != nil {
		return identity.External{}, err
	}
	return c.external(all, token.RefreshToken)
}

// code returns the authorization code of an answer that belongs to f.
func (c *Connector) code(f identity.Flow, values url.Values, m *metadata) (string, error) {
	for _, name := range []string{"code", "state", "iss", "error", "error_description"} {
		if len(values[name]) > 1 { // RFC 6749 §3.1
			return "", refusal("oauth_parameters", "the callback has more than one %s", name)
		}
	}
	if f.State == "" || !same(values.Get("state"), f.State) {
		return "", refusal("oauth_state", "the callback does not belong to the sign-in that this browser has begun")
	}
	if !c.config.Now().Before(f.Expires) {
		return "", refusal("oauth_expired", "the sign-in took longer than %s", identity.FlowLife)
	}
	// RFC 9207: another provider, which the browser was led to, gives itself away.
	if issuer := values.Get("iss"); values.Has("iss") && issuer != c.config.Issuer {
		return "", refusal("oidc_issuer_parameter", "the callback comes from the issuer %s, not %s", shown(issuer), c.config.Issuer)
	} else if issuer == "" && m.IssuerParameter {
		return "", refusal("oidc_issuer_parameter", "the callback lacks the parameter iss, which the provider says that it sends (RFC 9207)")
	}
	if values.Has("error") {
		return "", answerProblem(values.Get("error"), values.Get("error_description"))
	}
	if values.Get("code") == "" {
		return "", refusal("oauth_parameters", "the callback has neither a code nor an error")
	}
	return values.Get("code"), nil
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// Recheck asks for new tokens with the refresh token (Core §12). The credential that
// it returns takes the old one's place: providers that rotate refresh tokens do not
// accept the old one again. A withdrawn grant, another subject and somebody who is not
// of an allowed domain or tenant any more are identity.ErrWithdrawn.
func (c *Connector) Recheck(ctx context.Context, subject string, credential []byte) (identity.External, error) {
	if len(credential) == 0 {
		return identity.External{}, errors.New("rechecking somebody without a credential")
	}
	x, err := c.recheck(ctx, subject, string(credential))
	if p, ok := errors.AsType[*problem](err); ok && withdrawn[p.reason] {
		return identity.External{}, fmt.Errorf("%w: %s", identity.ErrWithdrawn, p.detail)
	}
	return x, c.refuse(err)
}

// withdrawn are the refusals that are about the person, not about the provider.
var withdrawn = map[string]bool{"oauth_code": true, "oidc_subject": true, "oidc_domain": true, "oidc_tenant": true}

func (c *Connector) recheck(ctx context.Context, subject, refresh string) (identity.External, error) {
	m, err := c.metadata.get(ctx)
	if err != nil {
		return identity.External{}, err
	}
	old := &oauth2.Token{RefreshToken: refresh}
	token, err := c.oauth(m, "").TokenSource(c.client(ctx), old).Token()
	if err != nil {
		return identity.External{}, exchangeProblem(err)
	}
	if token.RefreshToken != "" {
		refresh = token.RefreshToken
	}
	known := claims{"sub": subject}
	raw, _ := token.Extra("id_token").(string)
	if raw == "" && m.Userinfo == "" { // they are still there; more cannot be known
		return identity.External{Subject: subject, Credential: []byte(refresh)}, nil
	}
	if raw != "" {
		if known, err = c.verify(ctx, raw, token.AccessToken); err != nil {
			return identity.External{}, err
		}
		if known.text("sub") != subject {
			return identity.External{}, refusal("oidc_subject", "the refresh token is another subject's now")
		}
	}
	if known, err = c.complement(ctx, m, known, token.AccessToken); err != nil {
		return identity.External{}, err
	}
	return c.external(known, refresh)
}

// Probe reads the provider's metadata and keys anew, though not more often than every
// ten seconds, and judges both.
func (c *Connector) Probe(ctx context.Context) error {
	m, err := c.metadata.renew(ctx)
	if err == nil {
		err = m.judge()
	}
	var keys []key
	if err == nil {
		keys, err = c.keys.renew(ctx)
	}
	if err == nil && len(keys) == 0 {
		err = refusal("oidc_discovery", "the provider publishes no key for %s", strings.Join(algorithms, ", "))
	}
	p, ok := errors.AsType[*problem](err)
	if !ok {
		return err
	}
	if p.unavailable {
		return errs.Wrap(errs.Unavailable, p.cause, p.detail)
	}
	return errs.Errorf(errs.Unprocessable, "%s", p.detail)
}
