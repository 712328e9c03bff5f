package proxy

import (
	"net/http"
	"time"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/identity/saml"
	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
)

// samlOrganization is an organization's single sign-on, in the shape of the Pulumi
// Service with what it leaves out.
type samlOrganization struct {
	Organization      organizationSummary `json:"organization"`
	IDPSSODescriptor  string              `json:"idpSsoDescriptor"`
	EntityID          string              `json:"entityId,omitempty"`
	SSOURL            string              `json:"ssoUrl,omitempty"`
	NameIDFormat      string              `json:"nameIdFormat,omitempty"`
	ValidUntil        string              `json:"validUntil,omitempty"`
	ValidationError   string              `json:"validationError,omitempty"`
	DescriptorURL     string              `json:"descriptorUrl,omitempty"` // ours, from here on
	Binding           string              `json:"binding,omitempty"`
	Certificates      []samlCertificate   `json:"certificates"`
	Warnings          []string            `json:"warnings"`
	ServiceProvider   serviceProvider     `json:"serviceProvider"`
	Attributes        saml.AttributeMap   `json:"attributes"`
	AllowIdPInitiated bool                `json:"allowIdpInitiated"`
	AllowEncrypted    bool                `json:"allowEncrypted"`
	SignUp            bool                `json:"signUp"`
	Domains           []string            `json:"domains"`
	Required          bool                `json:"required"`
	Connector         string              `json:"connector"`
}

type samlCertificate struct {
	Subject     string    `json:"subject"`
	NotBefore   time.Time `json:"notBefore"`
	NotAfter    time.Time `json:"notAfter"`
	Fingerprint string    `json:"fingerprint"`
}

type serviceProvider struct {
	EntityID    string `json:"entityId"`
	ACS         string `json:"acs"`
	MetadataURL string `json:"metadataUrl"`
	Prepared    bool   `json:"prepared"` // the metadata can be fetched
}

func samlOrganizationOf(org identity.Organization, s saml.Settings) samlOrganization {
	out := samlOrganization{
		Organization:     organizationSummary{Name: org.Name, Login: org.Login},
		IDPSSODescriptor: s.Descriptor, EntityID: s.IdPEntityID, SSOURL: s.SSOURL, NameIDFormat: s.NameIDFormat,
		DescriptorURL: s.DescriptorURL, Binding: s.Binding, Certificates: []samlCertificate{}, Warnings: s.Warnings,
		ServiceProvider: serviceProvider{s.EntityID, s.ACS, s.MetadataURL, s.Prepared}, Attributes: s.Attributes,
		AllowIdPInitiated: s.AllowIdPInitiated, AllowEncrypted: s.AllowEncrypted, SignUp: s.SignUp, Domains: s.Domains,
		Required: org.SSO, Connector: identity.SAMLConnector(org.ID),
	}
	if !s.ValidUntil.IsZero() {
		out.ValidUntil = s.ValidUntil.UTC().Format(time.RFC3339)
	}
	for _, c := range s.Certificates {
		out.Certificates = append(out.Certificates, samlCertificate(c))
	}
	return out
}

func (g *Gate) samlSettings(w http.ResponseWriter, c *call) error {
	settings, err := g.SAML.Settings(c.Context(), c.log)
	if err != nil {
		return err
	}
	return g.writeSAML(w, c, settings)
}

func (g *Gate) writeSAML(w http.ResponseWriter, c *call, settings saml.Settings) error {
	org, err := g.Directory.OrganizationByID(c.Context(), c.log)
	if err != nil {
		return err
	}
	httpapi.WriteJSON(w, http.StatusOK, samlOrganizationOf(org, settings))
	return nil
}

// updateSAML changes what the body names. newIdpSsoDescriptor is what clients of the
// Pulumi Service send.
func (g *Gate) updateSAML(w http.ResponseWriter, c *call) error {
	var body struct {
		Descriptor        *string            `json:"newIdpSsoDescriptor"`
		DescriptorURL     *string            `json:"descriptorUrl"`
		NameIDFormat      *string            `json:"nameIdFormat"`
		Attributes        *saml.AttributeMap `json:"attributes"`
		AllowIdPInitiated *bool              `json:"allowIdpInitiated"`
		AllowEncrypted    *bool              `json:"allowEncrypted"`
		SignUp            *bool              `json:"signUp"`
		Domains           *[]string          `json:"domains"`
	}
	if err := c.decodeBody(&body); err != nil {
		return err
	}
	settings, err := g.SAML.Configure(c.detached(), c.principal, c.log, saml.Change{
		Descriptor: body.Descriptor, DescriptorURL: body.DescriptorURL, NameIDFormat: body.NameIDFormat, Attributes: body.Attributes,
		AllowIdPInitiated: body.AllowIdPInitiated, AllowEncrypted: body.AllowEncrypted, SignUp: body.SignUp, Domains: body.Domains,
	})
	if err != nil {
		return err
	}
	return g.writeSAML(w, c, settings)
}

// removeSAML is ours: the organization is a plain one again.
func (g *Gate) removeSAML(w http.ResponseWriter, c *call) error {
	return noContent(w, g.SAML.Remove(c.detached(), c.principal, c.log))
}

// samlAdmins lists the one administrator who need not sign in through the provider.
func (g *Gate) samlAdmins(w http.ResponseWriter, c *call) error {
	org, err := g.Directory.OrganizationByID(c.Context(), c.log)
	if err != nil {
		return err
	}
	admins := []userInfo{}
	if org.BreakGlass != "" {
		user, err := g.Directory.User(c.Context(), org.BreakGlass)
		if err != nil {
			return err
		}
		admins = append(admins, userInfo{user.Name, user.Login, user.AvatarURL, user.Email})
	}
	httpapi.WriteJSON(w, http.StatusOK, map[string][]userInfo{"samlAdmins": admins})
	return nil
}

func (g *Gate) setSAMLAdmin(w http.ResponseWriter, c *call) error {
	login := c.names["user"]
	_, err := g.Directory.UpdateOrganization(c.detached(), c.principal, c.log, identity.OrganizationChange{BreakGlass: &login})
	return noContent(w, err)
}

// probeSAML reports what is wrong with the provider, without signing anybody in.
func (g *Gate) probeSAML(w http.ResponseWriter, c *call) error {
	connector, err := g.SAML.Connector(c.Context(), c.log)
	if err != nil {
		return err
	}
	httpapi.WriteJSON(w, http.StatusOK, probe(c, connector))
	return nil
}

// scimToken answers with what is known of the token for provisioning, and createSCIMToken
// with a new one, which makes the old one worthless.
func (g *Gate) scimToken(w http.ResponseWriter, c *call) error {
	token, err := g.SCIM.Token(c.Context(), c.log)
	exists := err == nil
	if err != nil && errs.KindOf(err) != errs.NotFound {
		return err
	}
	httpapi.WriteJSON(w, http.StatusOK, struct {
		Exists   bool   `json:"exists"`
		Created  int64  `json:"created"`
		LastUsed int64  `json:"lastUsed"`
		By       string `json:"by"`
	}{exists, unix(token.Created), unix(token.LastUsed), token.By})
	return nil
}

func (g *Gate) createSCIMToken(w http.ResponseWriter, c *call) error {
	secret, err := g.SCIM.NewToken(c.detached(), c.principal, c.log)
	if err != nil {
		return err
	}
	httpapi.WriteJSON(w, http.StatusOK, map[string]string{"tokenValue": secret})
	return nil
}

func (g *Gate) deleteSCIMToken(w http.ResponseWriter, c *call) error {
	return noContent(w, g.SCIM.RevokeToken(c.detached(), c.principal, c.log))
}
