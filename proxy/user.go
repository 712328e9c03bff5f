package proxy

import (
	"net/http"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
)

// currentUser is the CLI's login probe. It has no tokenInfo for a personal token:
// the CLI would call its type unknown.
func (g *Gate) currentUser(w http.ResponseWriter, c *call) error {
	user, err := g.Directory.User(c.Context(), c.principal.UserID)
	if err != nil {
		return err
	}
	memberships, err := g.Directory.Organizations(c.Context(), user.ID)
	if err != nil {
		return err
	}
	organizations := make([]organizationSummary, 0, len(memberships))
	for _, m := range memberships {
		organizations = append(organizations, organizationSummary{Name: m.Organization.Name, Login: m.Organization.Login, Role: string(m.Role)})
	}
	linked, err := g.Directory.LinkedIdentities(c.Context(), user.ID)
	if err != nil {
		return err
	}
	factors, err := g.Email.Factors(c.Context(), user.ID)
	if err != nil {
		return err
	}
	httpapi.WriteJSON(w, http.StatusOK, struct {
		ID string `json:"id"`
		userInfo
		Organizations []organizationSummary `json:"organizations"`
		Identities    []string              `json:"identities"`
		HasMFA        bool                  `json:"hasMFA"`
		IsOrgManaged  bool                  `json:"isOrgManaged"`
		IsManagedBy   bool                  `json:"isManagedByMultiOrg"`
		SiteAdmin     bool                  `json:"siteAdmin,omitzero"`
	}{
		ID: user.ID, userInfo: userInfo{user.Name, user.Login, user.AvatarURL, user.Email}, Organizations: organizations,
		Identities: g.providers(c, linked), HasMFA: factors.MFA(), IsOrgManaged: user.ManagedBy != "", SiteAdmin: user.SiteAdmin,
	})
	return nil
}

// providers are the Pulumi Service's words for where identities come from, each once.
func (g *Gate) providers(c *call, linked []identity.LinkedIdentity) []string {
	words := map[identity.ConnectorKind]string{
		identity.KindGitHub: "github.com", identity.KindGitLab: "gitlab.com", identity.KindBitbucket: "bitbucket.org",
		identity.KindAtlassian: "bitbucket.org", identity.KindSAML: "SAML", identity.KindEmail: "Pulumi",
	}
	out, seen := []string{}, map[string]bool{}
	for _, i := range linked {
		word := words[g.kind(c, i.Connector)]
		if word != "" && !seen[word] {
			out, seen[word] = append(out, word), true
		}
	}
	return out
}

func (g *Gate) kind(c *call, connector string) identity.ConnectorKind {
	if connector == identity.EmailConnector {
		return identity.KindEmail
	}
	found, err := g.Connectors.Find(c.Context(), connector)
	if err != nil {
		return ""
	}
	return found.Info().Kind
}

// unlinkIdentity takes a way to sign in from the caller, who says it in the Pulumi
// Service's words. It takes a fresh session: an access token does not do.
func (g *Gate) unlinkIdentity(w http.ResponseWriter, c *call) error {
	linked, err := g.Directory.LinkedIdentities(c.Context(), c.principal.UserID)
	if err != nil {
		return err
	}
	for _, i := range linked {
		if words := g.providers(c, []identity.LinkedIdentity{i}); len(words) == 1 && words[0] == c.query.Get("identity") {
			if err := g.Directory.Unlink(c.detached(), c.principal, i.Identity); err != nil {
				return err
			}
			return g.currentUser(w, c)
		}
	}
	return errs.Errorf(errs.NotFound, "your account has no such identity")
}

// verifiedEmail answers whether somebody vouched for the caller's address.
func (g *Gate) verifiedEmail(w http.ResponseWriter, c *call) error {
	user, err := g.Directory.User(c.Context(), c.principal.UserID)
	if err != nil {
		return err
	}
	httpapi.WriteJSON(w, http.StatusOK, user.EmailVerified)
	return nil
}

// externalGroup is an organization, group or team at a connector.
type externalGroup struct {
	ID        string `json:"id"`
	Login     string `json:"githubLogin"`
	Name      string `json:"name"`
	AvatarURL string `json:"avatarUrl"`
	Connector string `json:"connector"` // ours
	Admin     bool   `json:"admin"`     // ours
}

// ownGroups lists the groups of the caller's, as the connectors said when they were
// asked last, of those that match.
func (g *Gate) ownGroups(c *call, match func(connector identity.ConnectorKind, group identity.Group) bool) ([]externalGroup, error) {
	linked, err := g.Directory.LinkedIdentities(c.Context(), c.principal.UserID)
	if err != nil {
		return nil, err
	}
	list := []externalGroup{}
	for _, i := range linked {
		kind := g.kind(c, i.Connector)
		for _, group := range i.Groups {
			if match(kind, group) {
				list = append(list, externalGroup{ID: group.ID, Login: group.Path, Name: group.Name, Connector: i.Connector, Admin: group.Admin})
			}
		}
	}
	return list, nil
}

// externalOrganizations lists what could back an organization.
func (g *Gate) externalOrganizations(w http.ResponseWriter, c *call) error {
	list, err := g.ownGroups(c, func(kind identity.ConnectorKind, group identity.Group) bool {
		return group.Parent == "" && (kind == identity.KindGitHub || kind == identity.KindGitLab)
	})
	if err != nil {
		return err
	}
	httpapi.WriteJSON(w, http.StatusOK, map[string][]externalGroup{"organizations": list})
	return nil
}

func (g *Gate) gitLabGroups(w http.ResponseWriter, c *call) error {
	list, err := g.ownGroups(c, func(kind identity.ConnectorKind, group identity.Group) bool {
		return group.Parent == "" && kind == identity.KindGitLab
	})
	if err != nil {
		return err
	}
	httpapi.WriteJSON(w, http.StatusOK, list)
	return nil
}

func (g *Gate) gitHubTeams(w http.ResponseWriter, c *call) error {
	parents, err := g.ownGroups(c, func(kind identity.ConnectorKind, group identity.Group) bool {
		return kind == identity.KindGitHub && group.Parent == "" && group.Path == c.names["group"]
	})
	if err != nil {
		return err
	}
	if len(parents) == 0 {
		return errs.Errorf(errs.NotFound, "you are in no such GitHub organization")
	}
	list, err := g.ownGroups(c, func(kind identity.ConnectorKind, group identity.Group) bool {
		return kind == identity.KindGitHub && group.Parent == parents[0].ID
	})
	if err != nil {
		return err
	}
	httpapi.WriteJSON(w, http.StatusOK, map[string][]externalGroup{"teams": list})
	return nil
}
