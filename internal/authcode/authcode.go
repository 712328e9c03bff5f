// Package authcode is the client's side of OAuth's authorization code flow (RFC 6749
// §4.1) with state and PKCE (RFC 7636, S256 only), for providers that are not OpenID
// Connect or need not be.
//
// What a browser brings back is believed by nobody: the state is compared in constant
// time, every parameter may be there once, an issuer that is named must be the right
// one (RFC 9207), and a provider's error becomes a fixed text, chosen by its code from
// a list. Neither the client's secret nor a code nor a token is ever in an error.
package authcode

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"golang.org/x/oauth2"

	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/outbound"
)

// Config describes a client of one provider.
type Config struct {
	Provider               string // what it is called in messages: "GitHub"
	ClientID, ClientSecret string
	AuthorizeURL, TokenURL string
	Scopes                 []string
	Basic                  bool     // the client authenticates in the header instead of the body (RFC 6749 §2.3.1)
	Issuers                []string // what the provider may call itself in iss (RFC 9207)
	HTTP                   *http.Client
}

// Provider is a provider as one of its clients sees it. It is safe for concurrent use.
type Provider struct {
	name    string
	oauth   oauth2.Config
	issuers []string
	http    *http.Client
}

// New returns a provider. Its HTTP client is c.HTTP without redirects, for a token
// must not follow one to another host.
func New(c Config) (*Provider, error) {
	switch {
	case c.ClientID == "":
		return nil, errors.New("the client ID is missing")
	case c.ClientSecret == "":
		return nil, errors.New("the client secret is missing")
	case strings.TrimSpace(c.ClientID) != c.ClientID || strings.TrimSpace(c.ClientSecret) != c.ClientSecret:
		return nil, errors.New("the client ID or the client secret begins or ends with a space or a line break")
	case c.HTTP == nil:
		return nil, errors.New("an HTTP client is missing")
	}
	for _, endpoint := range []string{c.AuthorizeURL, c.TokenURL} {
		if _, err := BaseURL(endpoint); err != nil {
			return nil, err
		}
	}
	client := *c.HTTP
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if client.Timeout == 0 {
		client.Timeout = 10 * time.Second
	}
	style := oauth2.AuthStyleInParams
	if c.Basic {
		style = oauth2.AuthStyleInHeader
	}
	return &Provider{
		name: c.Provider,
		oauth: oauth2.Config{
			ClientID: c.ClientID, ClientSecret: c.ClientSecret, Scopes: c.Scopes,
			Endpoint: oauth2.Endpoint{AuthURL: c.AuthorizeURL, TokenURL: c.TokenURL, AuthStyle: style},
		},
		issuers: c.Issuers,
		http:    &client,
	}, nil
}

// BaseURL returns text without a slash at its end if it is a URL that secrets may be
// sent to: https, or http on this very machine, and no more than host and path.
func BaseURL(text string) (string, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "":
		return "", fmt.Errorf("%q is not a URL such as https://git.example.com", text)
	case u.User != nil:
		return "", errors.New("a URL has a user name or password in it, which it must not")
	case u.RawQuery != "" || u.Fragment != "" || strings.HasSuffix(text, "?") || strings.HasSuffix(text, "#"):
		return "", fmt.Errorf("%q must end with the path", text)
	case u.Scheme == "https":
	case u.Scheme == "http" && loopback(u.Hostname()):
	default:
		return "", fmt.Errorf("%q must begin with https://", text)
	}
	return strings.TrimRight(text, "/"), nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// HTTP returns the client for calls with a token. It follows no redirect.
func (p *Provider) HTTP() *http.Client { return p.http }

// Flow is one way of a browser to the provider and back.
type Flow struct {
	State    string
	Verifier string    // of PKCE, 43 to 128 characters
	Callback string    // redirect_uri
	Expires  time.Time // when it is too late to come back; zero: never
}

// Begin returns where to send the browser, with parameters of the provider's own added.
func (p *Provider) Begin(f Flow, parameters url.Values) (string, error) {
	if f.State == "" || f.Callback == "" || len(f.Verifier) < 43 || len(f.Verifier) > 128 {
		return "", errors.New("authcode: a flow needs a state, a callback and a verifier of 43 to 128 characters")
	}
	options := []oauth2.AuthCodeOption{oauth2.S256ChallengeOption(f.Verifier)}
	for name := range parameters {
		options = append(options, oauth2.SetAuthURLParam(name, parameters.Get(name)))
	}
	return p.config(f).AuthCodeURL(f.State, options...), nil
}

// config is by value: every flow may have another callback.
func (p *Provider) config(f Flow) *oauth2.Config {
	c := p.oauth
	c.RedirectURL = f.Callback
	return &c
}

// maxParameter bounds a parameter of an answer. Codes of a few hundred bytes are seen.
const maxParameter = 4 << 10

// Finish judges the query that the browser came back with and exchanges the code in
// it. The error is a *[Refused], or errs.Unavailable.
func (p *Provider) Finish(ctx context.Context, f Flow, query url.Values) (Token, error) {
	for _, name := range []string{"state", "code", "error", "iss"} {
		if values := query[name]; len(values) > 1 || len(values) == 1 && len(values[0]) > maxParameter {
			return Token{}, &Refused{Response, "the parameter " + name + " is there twice, or too long"}
		}
	}
	state := query.Get("state")
	switch {
	case state == "":
		return Token{}, &Refused{Response, "the parameter state is missing"}
	case subtle.ConstantTimeCompare([]byte(state), []byte(f.State)) != 1:
		return Token{}, &Refused{State, "the parameter state is not the one that the browser was sent with"}
	case !f.Expires.IsZero() && time.Now().After(f.Expires):
		return Token{}, &Refused{State, "the browser took too long to come back"}
	case query.Has("iss") && !slices.Contains(p.issuers, query.Get("iss")):
		return Token{}, &Refused{Issuer, "the answer is another provider's: the parameter iss is not " + strings.Join(p.issuers, " or ")}
	case query.Has("error"):
		return Token{}, answered(query.Get("error"))
	case query.Get("code") == "":
		return Token{}, &Refused{Response, "the parameter code is missing"}
	}
	return p.token(p.config(f).Exchange(p.context(ctx), query.Get("code"), oauth2.VerifierOption(f.Verifier)))
}

// ErrRevoked says that the provider gives no more tokens for the one that it was shown.
var ErrRevoked = errors.New("the provider has withdrawn the authorization")

// Refresh returns t, or when that is about to expire, a new token in its place (RFC
// 6749 §6), which must be kept from then on: providers make the old one worthless.
// The error is [ErrRevoked] or errs.Unavailable.
func (p *Provider) Refresh(ctx context.Context, t Token) (Token, error) {
	if t.Refresh == "" || t.Expires.IsZero() || time.Until(t.Expires) > time.Minute {
		return t, nil
	}
	source := p.oauth.TokenSource(p.context(ctx), &oauth2.Token{RefreshToken: t.Refresh})
	fresh, err := p.token(source.Token())
	var refused *Refused
	if !errors.As(err, &refused) {
		return fresh, err
	}
	if slices.Contains([]string{"invalid_grant", "bad_refresh_token"}, refused.Code()) {
		return Token{}, ErrRevoked
	}
	// Somebody has changed the client's secret, say: that is nobody's withdrawal.
	return Token{}, errs.Errorf(errs.Unavailable, "%s does not renew tokens: %s", p.name, refused.Detail)
}

func (p *Provider) context(ctx context.Context) context.Context {
	return context.WithValue(ctx, oauth2.HTTPClient, p.http)
}

// token judges what the token endpoint has answered.
func (p *Provider) token(t *oauth2.Token, err error) (Token, error) {
	// Its text has the whole answer in it, which nobody has promised to be without
	// secrets.
	var failed *oauth2.RetrieveError
	switch {
	case errors.As(err, &failed):
		status := failed.Response.StatusCode
		if status >= 300 && status < 400 || status >= 500 || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout {
			return Token{}, p.Status(status)
		}
		return Token{}, exchanged(failed.ErrorCode)
	case err != nil:
		return Token{}, p.Unreachable(err)
	case !strings.EqualFold(t.Type(), "bearer"):
		return Token{}, p.Unusable("a token that is none of type bearer")
	}
	scope, _ := t.Extra("scope").(string)
	return Token{Access: t.AccessToken, Refresh: t.RefreshToken, Expires: t.Expiry, Scope: scope}, nil
}

// Status returns errs.Unavailable for a status that the provider should not have
// answered with.
func (p *Provider) Status(status int) error {
	advice := ""
	if status >= 300 && status < 400 {
		advice = ", a redirect, which is not followed: is its URL in the settings right?"
	}
	return errs.Errorf(errs.Unavailable, "%s answered with status %d%s", p.name, status, advice)
}

// Unreachable returns errs.Unavailable for a call that had no answer, or one that could
// not be read. A cause of this machine's own is kept for the log; of any other error
// only the type, for what the provider has sent may be in its text, and a provider that
// is broken may send back what it was told.
func (p *Provider) Unreachable(err error) error {
	return errs.Wrap(errs.Unavailable, cause(err), p.name+" cannot be reached, or answers what cannot be understood")
}

// Unusable returns errs.Unavailable for an answer that is understood and worth nothing.
func (p *Provider) Unusable(what string) error {
	return errs.Errorf(errs.Unavailable, "%s answered with %s", p.name, what)
}

// cause returns what may be written of err.
func cause(err error) error {
	var (
		name        *net.DNSError
		certificate *tls.CertificateVerificationError
		connection  *net.OpError
		slow        net.Error
	)
	for _, known := range []error{outbound.ErrTooLarge, outbound.ErrAddress, context.Canceled, io.ErrUnexpectedEOF, io.EOF} {
		if errors.Is(err, known) {
			return known
		}
	}
	switch {
	case errors.As(err, &name):
		return name
	case errors.As(err, &certificate):
		return certificate
	case errors.As(err, &slow) && slow.Timeout():
		return context.DeadlineExceeded
	case errors.As(err, &connection):
		return connection
	}
	for errors.Unwrap(err) != nil {
		err = errors.Unwrap(err)
	}
	return fmt.Errorf("an error of type %T", err)
}

// Token is what a provider gave for a code. It prints as nothing.
type Token struct {
	Access  string    `json:"access"`
	Refresh string    `json:"refresh,omitempty"`
	Expires time.Time `json:"expires,omitzero"` // of Access; zero: never, or not known
	Scope   string    `json:"-"`                // as granted; "" when the provider does not say
}

// Format keeps a token out of logs.
func (t Token) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte("(token)")) }

// Credential returns t in the form that [ParseToken] reads. It is a secret.
func (t Token) Credential() []byte {
	text, err := json.Marshal(t)
	if err != nil { // strings that are not UTF-8, which the endpoint's JSON cannot have had
		return nil
	}
	return text
}

// ParseToken reads a credential.
func ParseToken(credential []byte) (Token, error) {
	var t Token
	if err := json.Unmarshal(credential, &t); err != nil || t.Access == "" {
		return Token{}, errors.New("authcode: the stored credential is none")
	}
	return t, nil
}
