// Package atlassian is the connector for signing in with an Atlassian account, and the
// one for signing in with Bitbucket Cloud.
//
// An Atlassian account is its account ID, a Bitbucket account its UUID; both are for
// ever. Atlassian says nothing about groups. The groups of a Bitbucket account are its
// workspaces.
package atlassian

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"

	"github.com/go-json-experiment/json"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/identity/codeflow"
	"github.com/ipuka/ipuka/internal/authcode"
)

// Config is what a connector needs.
type Config struct {
	Name  string // of the instance, see [identity.ConnectorInfo]
	Title string // on the button; "Atlassian" or "Bitbucket" unless set
	// ClientID and ClientSecret are those of the OAuth 2.0 (3LO) application at
	// Atlassian, which has the User identity API; or of the OAuth consumer of a
	// Bitbucket workspace, which may read the account and its e-mail addresses.
	ClientID, ClientSecret string
	// SignUp makes accounts for those who have none.
	SignUp bool
	// Client makes the calls, see internal/outbound. It is needed.
	Client *http.Client

	// AuthURL and APIURL are used in place of the provider's own, by tests and where
	// a gateway stands before it.
	AuthURL, APIURL string
}

// Connector signs in with one of the two. It is safe for concurrent use.
type Connector struct {
	info     identity.ConnectorInfo
	provider *authcode.Provider
	api      string
	probe    string     // path that answers 401 to those without a token
	begin    url.Values // parameters for every flow
	account  func(context.Context, caller) (identity.External, error)
}

var _ identity.Connector = (*Connector)(nil)

// The reasons for refusals of both that are not package authcode's.
const (
	NotActive = "atlassian_not_active"
	NotAUser  = "atlassian_not_a_user" // an application, or a customer of a help desk
	Scope     = "atlassian_scope"      // the application may not read what is needed
)

// New returns a connector for Atlassian accounts, or what is wrong with the
// configuration.
func New(c Config) (*Connector, error) {
	return open(c, kind{ //nolint:gosec // G101: paths, no credentials
		kind: identity.KindAtlassian, title: "Atlassian",
		auth: "https://auth.atlassian.com", authorize: "/authorize", token: "/oauth/token",
		api: "https://api.atlassian.com", probe: "/me", scopes: []string{"read:me", "offline_access"},
		// Atlassian wants both, and asks for consent every time.
		begin:   url.Values{"audience": {"api.atlassian.com"}, "prompt": {"consent"}},
		account: atlassianAccount,
	})
}

// NewBitbucket returns a connector for Bitbucket Cloud, or what is wrong with the
// configuration. Its scopes are set where the consumer is registered.
func NewBitbucket(c Config) (*Connector, error) {
	return open(c, kind{ //nolint:gosec // G101: paths, no credentials
		kind: identity.KindBitbucket, title: "Bitbucket", basic: true,
		auth: "https://bitbucket.org", authorize: "/site/oauth2/authorize", token: "/site/oauth2/access_token",
		api: "https://api.bitbucket.org", probe: "/2.0/user", account: bitbucketAccount,
	})
}

// kind is what the two differ in.
type kind struct {
	kind                   identity.ConnectorKind
	title                  string
	auth, authorize, token string
	basic                  bool
	api, probe             string
	scopes                 []string
	begin                  url.Values
	account                func(context.Context, caller) (identity.External, error)
}

var validName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

func open(c Config, k kind) (*Connector, error) {
	if !validName.MatchString(c.Name) || c.Name == identity.EmailConnector {
		return nil, fmt.Errorf("%s: %q is no name for a connector: lower-case letters, digits and \"-\"", k.kind, c.Name)
	}
	auth, api, title := k.auth, k.api, k.title
	for _, override := range []struct {
		with string
		of   *string
	}{{c.AuthURL, &auth}, {c.APIURL, &api}} {
		if override.with == "" {
			continue
		}
		base, err := authcode.BaseURL(override.with)
		if err != nil {
			return nil, fmt.Errorf("%s: connector %s: %w", k.kind, c.Name, err)
		}
		*override.of = base
	}
	if c.Title != "" {
		title = c.Title
	}
	provider, err := authcode.New(authcode.Config{
		Provider: title, ClientID: c.ClientID, ClientSecret: c.ClientSecret,
		AuthorizeURL: auth + k.authorize, TokenURL: auth + k.token,
		Scopes: k.scopes, Basic: k.basic, Issuers: []string{auth}, HTTP: c.Client,
	})
	if err != nil {
		return nil, fmt.Errorf("%s: connector %s: %w", k.kind, c.Name, err)
	}
	return &Connector{
		info:     identity.ConnectorInfo{Name: c.Name, Kind: k.kind, Title: title, SignUp: c.SignUp, Issuer: auth},
		provider: provider, api: api, probe: k.probe, begin: k.begin, account: k.account,
	}, nil
}

// Info implements [identity.Connector].
func (c *Connector) Info() identity.ConnectorInfo { return c.info }

// Begin implements [identity.Connector]. Neither provider can be made to ask for a
// password again.
func (c *Connector) Begin(_ context.Context, f identity.Flow) (identity.Redirect, error) {
	return c.flow().Begin(f, c.begin)
}

// Finish implements [identity.Connector].
func (c *Connector) Finish(ctx context.Context, f identity.Flow, r identity.Response) (identity.External, error) {
	return c.flow().Finish(ctx, f, r)
}

func (c *Connector) flow() codeflow.Flow {
	return codeflow.Flow{Connector: c.info.Name, Provider: c.provider, Scope: Scope, Read: c.read}
}

func (c *Connector) refuse(reason, detail string) *identity.Refusal {
	return codeflow.Refuse(c.info.Name, reason, detail)
}

// read returns the account that a token is for. The error is a *identity.Refusal, or
// errs.Unavailable.
func (c *Connector) read(ctx context.Context, token authcode.Token) (identity.External, error) {
	x, err := c.account(ctx, caller{c, token})
	if err != nil {
		return identity.External{}, err
	}
	if u, err := url.Parse(x.AvatarURL); err != nil || u.Scheme != "https" {
		x.AvatarURL = ""
	}
	x.Credential = token.Credential()
	x.Attributes = map[string][]string{"id": {x.Subject}, "login": {x.Login}, "name": {x.Name}, "email": {x.Email},
		"email_verified": {strconv.FormatBool(x.EmailVerified)}}
	for _, g := range x.Groups {
		x.Attributes["workspace"] = append(x.Attributes["workspace"], g.Path)
	}
	return x, nil
}

// Recheck implements [identity.Connector], see [codeflow.Flow.Recheck].
func (c *Connector) Recheck(ctx context.Context, subject string, credential []byte) (identity.External, error) {
	return c.flow().Recheck(ctx, subject, credential)
}

// Probe implements [identity.Connector]. Who has no token is answered 401, and that was
// the question.
func (c *Connector) Probe(ctx context.Context) error {
	answer, err := c.get(ctx, c.api+c.probe, "")
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	switch answer.StatusCode {
	case http.StatusOK, http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests:
		return nil
	default:
		return c.provider.Status(answer.StatusCode)
	}
}

func (c *Connector) get(ctx context.Context, to, token string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, to, nil)
	if err != nil {
		return nil, c.provider.Unreachable(err)
	}
	request.Header.Set("Accept", "application/json")
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := c.provider.HTTP().Do(request)
	if err != nil {
		return nil, c.provider.Unreachable(err)
	}
	return answer, nil
}

// caller calls the API for one token.
type caller struct {
	*Connector
	token authcode.Token
}

// call reads the answer of a URL of the API into v.
func (c caller) call(ctx context.Context, to string, v any) error {
	answer, err := c.get(ctx, to, c.token.Access)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	switch answer.StatusCode {
	case http.StatusOK:
		if err := json.UnmarshalRead(answer.Body, v); err != nil {
			return c.provider.Unreachable(err)
		}
		return nil
	case http.StatusUnauthorized:
		return c.refuse(authcode.Code, c.info.Title+" does not accept its own token: it has been revoked")
	case http.StatusForbidden, http.StatusNotFound:
		return c.refuse(Scope, c.info.Title+" does not let the application read the account: the application lacks a permission")
	default:
		return c.provider.Status(answer.StatusCode)
	}
}
