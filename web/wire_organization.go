package web

import "strings"

// role returns the visitor's role in an organization, "" for one that they are not in
// or where the API does not say.
func (u *wireUser) role(organization string) string {
	for _, o := range u.Organizations {
		if strings.EqualFold(o.Login, organization) {
			return o.Role
		}
	}
	return ""
}

// wireMetadata is an organization.
type wireMetadata struct {
	ID          string   `json:"id"`
	Login       string   `json:"githubLogin"`
	Name        string   `json:"name"`
	Kind        string   `json:"kind"`
	Backing     string   `json:"backingOrgLogin"`
	Created     wireTime `json:"created"`
	UserRole    string   `json:"userRole"`
	MemberCount int64    `json:"memberCount"`
	SSO         bool     `json:"ssoRequired"`
	Default     int      `json:"defaultStackPermission"`
}

// Admin reports whether the visitor may see what administrators may do.
func (m wireMetadata) Admin() bool { return m.UserRole != "member" && m.UserRole != "none" }

// Path returns the console's path of a part of the organization.
func (m wireMetadata) Path(more ...string) string {
	return stackName{Organization: m.Login}.Path(more...)
}

type wireMemberList struct {
	Members []wireMember `json:"members"`
	Next    string       `json:"continuationToken"`
}

type wireMember struct {
	Role    string     `json:"role"`
	User    wireUserID `json:"user"`
	Created wireTime   `json:"created"`
	Source  string     `json:"source"`
}

// wireUserID is a person with the address.
type wireUserID struct {
	Login string `json:"githubLogin"`
	Name  string `json:"name"`
	Email string `json:"email"`
}

type wireInviteList struct {
	Invites []wireInvite `json:"invites"`
	Next    string       `json:"continuationToken"`
}

type wireInvite struct {
	ID         string     `json:"id"`
	Email      string     `json:"email"`
	Role       string     `json:"role"`
	Sent       int64      `json:"sentAt"`
	Expires    int64      `json:"expiresAt"`
	SentBy     wireUserID `json:"sentBy"`
	Status     string     `json:"status"`
	AcceptedBy string     `json:"acceptedBy"`
	URL        string     `json:"acceptInviteUrl"`
}

type wireTeamList struct {
	Teams []wireTeam `json:"teams"`
}

type wireTeam struct {
	Name        string      `json:"name"`
	DisplayName string      `json:"displayName"`
	Description string      `json:"description"`
	Source      string      `json:"source"`
	ReadOnly    bool        `json:"readOnly"`
	Groups      []wireGroup `json:"groups"`
	MemberCount int64       `json:"memberCount"`
	Members     []struct {
		Login string `json:"githubLogin"`
		Name  string `json:"name"`
		Role  string `json:"role"`
	} `json:"members"`
	UserRole string `json:"userRole"`
}

type wireGroup struct {
	Connector string `json:"connector"`
	ID        string `json:"id"`
	Path      string `json:"path"`

	Title string `json:"-"` // of the connector
}

// wireExternal is an organization or group at a provider.
type wireExternal struct {
	ID        string `json:"id"`
	Login     string `json:"githubLogin"`
	Name      string `json:"name"`
	Connector string `json:"connector"`
	Admin     bool   `json:"admin"`
}

type wireSAML struct {
	Descriptor    string            `json:"idpSsoDescriptor"`
	EntityID      string            `json:"entityId"`
	SSOURL        string            `json:"ssoUrl"`
	NameIDFormat  string            `json:"nameIdFormat"`
	ValidUntil    wireTime          `json:"validUntil"`
	DescriptorURL string            `json:"descriptorUrl"`
	Binding       string            `json:"binding"`
	Certificates  []wireCertificate `json:"certificates"`
	Warnings      []string          `json:"warnings"`
	Ours          struct {
		EntityID    string `json:"entityId"`
		ACS         string `json:"acs"`
		MetadataURL string `json:"metadataUrl"`
		Prepared    bool   `json:"prepared"`
	} `json:"serviceProvider"`
	Attributes        wireAttributes `json:"attributes"`
	AllowIdPInitiated bool           `json:"allowIdpInitiated"`
	AllowEncrypted    bool           `json:"allowEncrypted"`
	SignUp            bool           `json:"signUp"`
	Domains           []string       `json:"domains"`
	Required          bool           `json:"required"`
	Connector         string         `json:"connector"`
}

// wireAttributes are the names of the attributes that an identity provider sends, as
// the API spells the members.
type wireAttributes struct {
	Login     string `json:"login"`
	Name      string `json:"name"`
	FirstName string `json:"firstName"`
	LastName  string `json:"lastName"`
	Email     string `json:"email"`
	Groups    string `json:"groups"`
}

type wireCertificate struct {
	Subject     string   `json:"subject"`
	NotBefore   wireTime `json:"notBefore"`
	NotAfter    wireTime `json:"notAfter"`
	Fingerprint string   `json:"fingerprint"`
}

type wireHealth struct {
	Name    string `json:"name"`
	Kind    string `json:"kind"`
	Title   string `json:"title"`
	Issuer  string `json:"issuer"`
	SignUp  bool   `json:"signUp"`
	Healthy bool   `json:"healthy"`
	Problem string `json:"problem"`
}

type wireSignIns struct {
	SignIns []wireAuditEvent `json:"signIns"`
	Next    string           `json:"continuationToken"`
}

type wireSCIM struct {
	Exists   bool   `json:"exists"`
	Created  int64  `json:"created"`
	LastUsed int64  `json:"lastUsed"`
	By       string `json:"by"`
}
