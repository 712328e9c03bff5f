// Package github is the connector for signing in with GitHub: github.com, GitHub
// Enterprise Cloud with its own host, and GitHub Enterprise Server.
//
// A person is the numeric ID of an account, which GitHub never gives to anybody else,
// unlike logins and e-mail addresses. Organizations and teams are groups, by their
// numeric IDs too.
//
// The application at GitHub is an OAuth app or a GitHub App. It is asked for the
// scopes read:user, user:email and read:org; a GitHub App has permissions in their
// place: e-mail addresses and organization members, both to read. A token is sent to
// GitHub's API and nowhere else: redirects are not followed.
package github

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

// Config says which GitHub, and who may come from there.
type Config struct {
	Name  string // of the instance, see [identity.ConnectorInfo]
	Title string // on the button; "GitHub" unless set
	// ClientID and ClientSecret are those of the application at GitHub.
	ClientID, ClientSecret string
	// BaseURL is where people use GitHub, such as https://github.example.com; "" for
	// github.com.
	BaseURL string
	// Organizations are logins of organizations. When there are any, only active
	// members of one of them get in.
	Organizations []string
	// SignUp makes accounts for those who have none.
	SignUp bool
	// Client makes the calls, see internal/outbound. It is needed.
	Client *http.Client
}

// Connector signs in with one GitHub. It is safe for concurrent use.
type Connector struct {
	info          identity.ConnectorInfo
	provider      *authcode.Provider
	api           string // with a slash at the end
	organizations []string
}

var _ identity.Connector = (*Connector)(nil)

// The reasons for refusals that are GitHub's own; the others are those of package
// authcode.
const (
	NotAMember = "github_not_a_member" // of any of Config.Organizations
	Suspended  = "github_suspended"
	NotAUser   = "github_not_a_user" // a bot or an organization
	Scope      = "github_scope"      // the application may not read what is needed
)

const dotCom = "https://github.com"

var (
	validName         = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)
	validOrganization = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]*$`)
)

// New returns a connector, or what is wrong with the configuration.
func New(c Config) (*Connector, error) {
	if !validName.MatchString(c.Name) || c.Name == identity.EmailConnector {
		return nil, fmt.Errorf("github: %q is no name for a connector: lower-case letters, digits and \"-\"", c.Name)
	}
	if c.Title == "" {
		c.Title = "GitHub"
	}
	if c.BaseURL == "" {
		c.BaseURL = dotCom
	}
	base, err := authcode.BaseURL(c.BaseURL)
	if err != nil {
		return nil, fmt.Errorf("github: connector %s: base URL: %w", c.Name, err)
	}
	for _, login := range c.Organizations {
		if !validOrganization.MatchString(login) {
			return nil, fmt.Errorf("github: connector %s: %q is no login of an organization", c.Name, login)
		}
	}
	provider, err := authcode.New(authcode.Config{
		Provider: c.Title, ClientID: c.ClientID, ClientSecret: c.ClientSecret,
		AuthorizeURL: base + "/login/oauth/authorize", TokenURL: base + "/login/oauth/access_token",
		Scopes:  []string{"read:user", "user:email", "read:org"},
		Issuers: []string{base + "/login/oauth", base},
		HTTP:    c.Client,
	})
	if err != nil {
		return nil, fmt.Errorf("github: connector %s: %w", c.Name, err)
	}
	return &Connector{
		info:          identity.ConnectorInfo{Name: c.Name, Kind: identity.KindGitHub, Title: c.Title, SignUp: c.SignUp, Issuer: base},
		provider:      provider,
		api:           apiURL(base),
		organizations: c.Organizations,
	}, nil
}

// apiURL returns where the REST API of a GitHub is. Enterprise Cloud with data
// residency (SUBDOMAIN.ghe.com) has a host for it, as github.com has.
func apiURL(base string) string {
	u, err := url.Parse(base)
	if err == nil && (base == dotCom || strings.HasSuffix(u.Host, ".ghe.com")) {
		return "https://api." + u.Host + "/"
	}
	return base + "/api/v3/"
}

// Info implements [identity.Connector].
func (c *Connector) Info() identity.ConnectorInfo { return c.info }

// Begin implements [identity.Connector]. GitHub does not ask for a password again; of
// a fresh flow it asks which account to use.
func (c *Connector) Begin(_ context.Context, f identity.Flow) (identity.Redirect, error) {
	parameters := url.Values{}
	if f.Fresh {
		parameters.Set("prompt", "select_account")
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

// Probe implements [identity.Connector]. It asks the API for a proverb, which needs no
// token and costs GitHub nothing.
func (c *Connector) Probe(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.api+"zen", nil)
	if err != nil {
		return err
	}
	answer, err := c.provider.HTTP().Do(request)
	if err != nil {
		return c.provider.Unreachable(err)
	}
	defer func() { _ = answer.Body.Close() }()
	// A server in private mode wants a token, and github.com allows few calls without
	// one: both answer, and that was the question.
	switch answer.StatusCode {
	case http.StatusOK, http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests:
	default:
		return c.provider.Status(answer.StatusCode)
	}
	if answer.Header.Get("X-GitHub-Request-Id") == "" {
		return errs.Errorf(errs.Unavailable, "what answers at %s is not GitHub", c.api)
	}
	return nil
}
