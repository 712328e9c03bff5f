// Package gitlab is the connector for signing in with GitLab: GitLab.com and
// self-managed ones.
//
// A person is the numeric ID of an account on one GitLab: two GitLabs are two
// connectors, and what has the same number or name on both has nothing in common.
// Groups are numeric IDs too. The application at GitLab is a confidential one with the
// scopes read_user and read_api. Its tokens live for two hours; whoever has arrived is
// asked about with the refresh token, which is good for one use.
package gitlab

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/identity/codeflow"
	"github.com/ipuka/ipuka/internal/authcode"
	"github.com/ipuka/ipuka/internal/errs"
)

// Config says which GitLab, and who may come from there.
type Config struct {
	Name  string // of the instance, see [identity.ConnectorInfo]
	Title string // on the button; "GitLab" unless set
	// ClientID and ClientSecret are those of the application at GitLab.
	ClientID, ClientSecret string
	// BaseURL is where people use GitLab, such as https://gitlab.example.com; "" for
	// https://gitlab.com.
	BaseURL string
	// Groups are full paths of groups. When there are any, only members of one of them
	// get in, guests at least.
	Groups []string
	// SignUp makes accounts for those who have none.
	SignUp bool
	// Client makes the calls, see internal/outbound. It is needed.
	Client *http.Client
}

// Connector signs in with one GitLab. It is safe for concurrent use.
type Connector struct {
	info     identity.ConnectorInfo
	provider *authcode.Provider
	base     string
	groups   []string
}

var _ identity.Connector = (*Connector)(nil)

// The reasons for refusals that are GitLab's own; the others are those of package
// authcode.
const (
	NotAMember = "gitlab_not_a_member" // of any of Config.Groups
	NotActive  = "gitlab_not_active"   // blocked, deactivated, waiting for approval
	NotAUser   = "gitlab_not_a_user"   // a bot
	Scope      = "gitlab_scope"        // the application may not read what is needed
)

var (
	validName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)
	validPath = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$`)
)

// New returns a connector, or what is wrong with the configuration.
func New(c Config) (*Connector, error) {
	if !validName.MatchString(c.Name) || c.Name == identity.EmailConnector {
		return nil, fmt.Errorf("gitlab: %q is no name for a connector: lower-case letters, digits and \"-\"", c.Name)
	}
	if c.Title == "" {
		c.Title = "GitLab"
	}
	if c.BaseURL == "" {
		c.BaseURL = "https://gitlab.com"
	}
	base, err := authcode.BaseURL(c.BaseURL)
	if err != nil {
		return nil, fmt.Errorf("gitlab: connector %s: base URL: %w", c.Name, err)
	}
	for _, path := range c.Groups {
		if !validPath.MatchString(path) {
			return nil, fmt.Errorf("gitlab: connector %s: %q is no path of a group, such as acme or acme/platform", c.Name, path)
		}
	}
	provider, err := authcode.New(authcode.Config{
		Provider: c.Title, ClientID: c.ClientID, ClientSecret: c.ClientSecret,
		AuthorizeURL: base + "/oauth/authorize", TokenURL: base + "/oauth/token",
		Scopes:  []string{"read_user", "read_api"},
		Issuers: []string{base},
		HTTP:    c.Client,
	})
	if err != nil {
		return nil, fmt.Errorf("gitlab: connector %s: %w", c.Name, err)
	}
	return &Connector{
		info:     identity.ConnectorInfo{Name: c.Name, Kind: identity.KindGitLab, Title: c.Title, SignUp: c.SignUp, Issuer: base},
		provider: provider,
		base:     base,
		groups:   c.Groups,
	}, nil
}

// Info implements [identity.Connector].
func (c *Connector) Info() identity.ConnectorInfo { return c.info }

// Begin implements [identity.Connector]. A GitLab that does not know prompt lets a
// fresh flow pass without asking again.
func (c *Connector) Begin(_ context.Context, f identity.Flow) (identity.Redirect, error) {
	parameters := url.Values{}
	if f.Fresh {
		parameters.Set("prompt", "login")
	}
	return c.flow().Begin(f, parameters)
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

// Recheck implements [identity.Connector], see [codeflow.Flow.Recheck].
func (c *Connector) Recheck(ctx context.Context, subject string, credential []byte) (identity.External, error) {
	return c.flow().Recheck(ctx, subject, credential)
}

// Probe implements [identity.Connector]. GitLab tells its version to nobody without a
// token, but says so in JSON, and that was the question.
func (c *Connector) Probe(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+"/api/v4/version", nil)
	if err != nil {
		return err
	}
	answer, err := c.provider.HTTP().Do(request)
	if err != nil {
		return c.provider.Unreachable(err)
	}
	defer func() { _ = answer.Body.Close() }()
	switch answer.StatusCode {
	case http.StatusOK, http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests:
	default:
		return c.provider.Status(answer.StatusCode)
	}
	json := strings.HasPrefix(answer.Header.Get("Content-Type"), "application/json")
	if answer.StatusCode != http.StatusTooManyRequests && !json {
		return errs.Errorf(errs.Unavailable, "what answers at %s/api/v4 is not GitLab", c.base)
	}
	return nil
}
