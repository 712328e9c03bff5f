package oidc

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/oauth2"

	"github.com/ipuka/ipuka/internal/httpapi"
)

// metadata is what a provider publishes about itself (OpenID Connect Discovery §3).
type metadata struct {
	Issuer          string   `json:"issuer"`
	Authorization   string   `json:"authorization_endpoint"`
	Token           string   `json:"token_endpoint"`
	Keys            string   `json:"jwks_uri"`
	Userinfo        string   `json:"userinfo_endpoint"`
	Algorithms      []string `json:"id_token_signing_alg_values_supported"`
	TokenMethods    []string `json:"token_endpoint_auth_methods_supported"`
	Challenges      []string `json:"code_challenge_methods_supported"`
	ResponseTypes   []string `json:"response_types_supported"`
	IssuerParameter bool     `json:"authorization_response_iss_parameter_supported"` // RFC 9207 §3
}

func (c *Connector) discover(ctx context.Context) (*metadata, error) {
	body, err := c.read(ctx, strings.TrimSuffix(c.config.Issuer, "/")+"/.well-known/openid-configuration", "", "metadata")
	if err != nil {
		return nil, err
	}
	var m metadata
	if err := httpapi.Decode(body, &m); err != nil {
		return nil, refusal("oidc_discovery", "the provider's metadata is not JSON as OpenID Connect Discovery has it")
	}
	if m.Issuer != c.config.Issuer {
		return nil, refusal("oidc_discovery", "the provider calls its issuer %s, here it is set to %s: they must be the same to the letter", shown(m.Issuer), c.config.Issuer)
	}
	own, err := url.Parse(c.config.Issuer)
	if err != nil {
		return nil, err
	}
	for name, endpoint := range map[string]string{"authorization_endpoint": m.Authorization, "token_endpoint": m.Token, "jwks_uri": m.Keys, "userinfo_endpoint": m.Userinfo} {
		if endpoint == "" && name == "userinfo_endpoint" {
			continue
		}
		if u, err := url.Parse(endpoint); err != nil || !trusted(u, own.Scheme == "http") || u.User != nil || u.Fragment != "" {
			return nil, refusal("oidc_discovery", "the provider's %s is missing or does not begin with https://", name)
		}
	}
	return &m, nil
}

// judge says what of the provider does not fit.
func (m *metadata) judge() error {
	if m.Algorithms != nil && !slices.ContainsFunc(m.Algorithms, func(a string) bool { return slices.Contains(algorithms, a) }) {
		return refusal("oidc_discovery", "the provider signs ID tokens with none of %s", strings.Join(algorithms, ", "))
	}
	if m.Challenges != nil && !slices.Contains(m.Challenges, "S256") {
		return refusal("oidc_discovery", "the provider does not know PKCE with S256")
	}
	if m.ResponseTypes != nil && !slices.Contains(m.ResponseTypes, "code") {
		return refusal("oidc_discovery", "the provider does not know the authorization code flow")
	}
	return nil
}

// style returns how the client shows its secret. Trying one after the other, as oauth2
// does unless told, would spend the code on the first.
func (m *metadata) style(secret string) oauth2.AuthStyle {
	if secret == "" || m.TokenMethods != nil && !slices.Contains(m.TokenMethods, "client_secret_basic") {
		return oauth2.AuthStyleInParams
	}
	return oauth2.AuthStyleInHeader // the default of Discovery §3
}

// maxBody bounds answers even when the client does not.
const maxBody = 4 << 20

// read gets a document of the provider; what is its name in messages.
func (c *Connector) read(ctx context.Context, address, bearer, what string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json")
	if bearer != "" {
		request.Header.Set("Authorization", "Bearer "+bearer)
	}
	answer, err := c.config.Client.Do(request)
	if err != nil {
		return nil, callProblem(err, what)
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		return nil, statusProblem(answer, what)
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxBody))
	if err != nil {
		return nil, callProblem(err, what)
	}
	return body, nil
}

func statusProblem(answer *http.Response, what string) *problem {
	text := fmt.Sprintf("the provider's %s cannot be read: it answered with status %d", what, answer.StatusCode)
	if answer.StatusCode >= 300 && answer.StatusCode < 400 {
		text += ", and redirects are not followed"
	}
	return unavailable(nil, "%s", text)
}
