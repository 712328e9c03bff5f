package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/identity/atlassian"
	"github.com/ipuka/ipuka/identity/github"
	"github.com/ipuka/ipuka/identity/gitlab"
	"github.com/ipuka/ipuka/identity/oidc"
	"github.com/ipuka/ipuka/identity/saml"
	"github.com/ipuka/ipuka/internal/errs"
)

// connectorConfig is one element of connectors in the configuration file.
type connectorConfig struct {
	kind, name, title      string
	url                    string // of the server, or the issuer
	clientID, clientSecret string
	members                []string // organizations or groups, one of which is required
	scopes                 []string
	groupsClaim            string
	loginClaim             string
	domains, tenants       []string
	parameters             map[string]string // of the authorization request
	signUp                 bool
}

// connectorKinds are the kinds that the configuration file knows, with the keys of
// each besides those that all have.
var connectorKinds = map[identity.ConnectorKind][]string{
	identity.KindGitHub:    {"url", "organizations"},
	identity.KindGitLab:    {"url", "groups"},
	identity.KindAtlassian: {},
	identity.KindBitbucket: {},
	identity.KindOIDC:      {"issuer", "scopes", "groups_claim", "login_claim", "domains", "tenants", "parameters"},
}

var (
	connectorKeys = []string{"kind", "name", "title", "client_id", "client_secret_file", "sign_up"}
	connectorName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,38}$`)
)

// parseConnectors reads the list of connectors. Every problem is reported, with the
// place it is at.
func parseConnectors(value any) ([]connectorConfig, []error) {
	list, ok := value.([]any)
	if !ok {
		return nil, []error{errors.New("connectors: a list of blocks, each with a kind")}
	}
	var connectors []connectorConfig
	var problems []error
	for i, element := range list {
		block, ok := element.(map[string]any)
		if !ok {
			problems = append(problems, fmt.Errorf("connectors: element %d is not a block with a kind", i+1))
			continue
		}
		c, err := parseConnector(block)
		if err != nil {
			problems = append(problems, fmt.Errorf("connectors: element %d: %w", i+1, err))
			continue
		}
		if slices.ContainsFunc(connectors, func(other connectorConfig) bool { return other.name == c.name }) {
			problems = append(problems, fmt.Errorf("connectors: two have the name %s, give each its own", c.name))
		}
		connectors = append(connectors, c)
	}
	return connectors, problems
}

func parseConnector(block map[string]any) (connectorConfig, error) {
	text := func(key string) string {
		if block[key] == nil {
			return ""
		}
		return strings.TrimSpace(fmt.Sprint(block[key]))
	}
	c := connectorConfig{
		kind: text("kind"), name: text("name"), title: text("title"), clientID: text("client_id"), url: text("url") + text("issuer"),
		groupsClaim: text("groups_claim"), loginClaim: text("login_claim"), signUp: text("sign_up") != "false",
		members: append(texts(block["organizations"]), texts(block["groups"])...), scopes: texts(block["scopes"]),
		domains: texts(block["domains"]), tenants: texts(block["tenants"]),
	}
	if given, ok := block["parameters"].(map[string]any); ok {
		c.parameters = make(map[string]string, len(given))
		for name, value := range given {
			c.parameters[name] = fmt.Sprint(value)
		}
	} else if block["parameters"] != nil {
		return c, errors.New("parameters: a block of names and values, such as {access_type: offline}")
	}
	extra, known := connectorKinds[identity.ConnectorKind(c.kind)]
	if !known {
		return c, fmt.Errorf("kind: %q is none of github, gitlab, atlassian, bitbucket, oidc (SAML is set up by each organization, on its pages)", c.kind)
	}
	for key := range block {
		if !slices.Contains(connectorKeys, key) && !slices.Contains(extra, key) {
			return c, fmt.Errorf("%s is not a setting of a %s connector", key, c.kind)
		}
	}
	if c.name == "" {
		c.name = c.kind
	}
	if !connectorName.MatchString(c.name) || c.name == identity.EmailConnector {
		return c, fmt.Errorf("name: %q is not 1 to 39 of the characters a-z 0-9 -", c.name)
	}
	if c.clientID == "" || text("client_secret_file") == "" {
		return c, errors.New("client_id and client_secret_file are needed: register Ipuka at the provider, which gives both")
	}
	secret, err := os.ReadFile(text("client_secret_file"))
	if err != nil {
		return c, fmt.Errorf("client_secret_file: %w", err)
	}
	if c.clientSecret = strings.TrimSpace(string(secret)); c.clientSecret == "" {
		return c, errors.New("client_secret_file: the file is empty")
	}
	return c, nil
}

// texts returns a list of strings, or one string as a list.
func texts(value any) []string {
	switch value := value.(type) {
	case nil:
		return nil
	case []any:
		out := make([]string, len(value))
		for i, v := range value {
			out[i] = fmt.Sprint(v)
		}
		return out
	}
	return []string{fmt.Sprint(value)}
}

// open makes the connector. It asks nobody: a provider that is down keeps nothing from
// starting.
func (c connectorConfig) open(client *http.Client) (identity.Connector, error) {
	switch identity.ConnectorKind(c.kind) {
	case identity.KindGitHub:
		return github.New(github.Config{Name: c.name, Title: c.title, ClientID: c.clientID, ClientSecret: c.clientSecret,
			BaseURL: c.url, Organizations: c.members, SignUp: c.signUp, Client: client})
	case identity.KindGitLab:
		return gitlab.New(gitlab.Config{Name: c.name, Title: c.title, ClientID: c.clientID, ClientSecret: c.clientSecret,
			BaseURL: c.url, Groups: c.members, SignUp: c.signUp, Client: client})
	case identity.KindAtlassian:
		return atlassian.New(atlassian.Config{Name: c.name, Title: c.title, ClientID: c.clientID, ClientSecret: c.clientSecret,
			SignUp: c.signUp, Client: client})
	case identity.KindBitbucket:
		return atlassian.NewBitbucket(atlassian.Config{Name: c.name, Title: c.title, ClientID: c.clientID, ClientSecret: c.clientSecret,
			SignUp: c.signUp, Client: client})
	case identity.KindOIDC:
		return oidc.New(oidc.Config{Name: c.name, Title: c.title, Issuer: c.url, ClientID: c.clientID, ClientSecret: c.clientSecret,
			Scopes: c.scopes, GroupsClaim: c.groupsClaim, LoginClaim: c.loginClaim, AllowedDomains: c.domains, AllowedTenants: c.tenants,
			Parameters: c.parameters,
			SignUp:     c.signUp, Client: client})
	}
	return nil, fmt.Errorf("there is no connector of kind %s", c.kind)
}

// connectors are the configured connectors and those of organizations.
type connectors struct {
	site []identity.Connector
	saml *saml.Provider
}

// Site implements identity.Connectors.
func (c connectors) Site() []identity.Connector { return c.site }

// Find implements identity.Connectors.
func (c connectors) Find(ctx context.Context, name string) (identity.Connector, error) {
	for _, connector := range c.site {
		if connector.Info().Name == name {
			return connector, nil
		}
	}
	if organization, ok := strings.CutPrefix(name, identity.SAMLConnector("")); ok {
		return c.saml.Connector(ctx, organization)
	}
	return nil, errs.Errorf(errs.NotFound, "there is no such connector")
}
