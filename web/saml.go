package web

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/ipuka/ipuka/internal/errs"
)

// samlPage is an organization's single sign-on. What its forms were sent with is in it
// when that failed.
type samlPage struct {
	Organization wireMetadata
	wireSAML
	Configured   bool
	Path         string // of the page
	Until        time.Time
	Certificates []certificate
	Exempt       string // login of the administrator who needs no single sign-on
	Health       *wireHealth
	Refused      []refusedSignIn
	Done         string

	// Problems, each beside the form that it is about.
	Problem, ProviderProblem, OptionsProblem, RequireProblem, ExemptProblem string

	TypedURL, TypedText string // of a new provider
	Names               []namedAttribute
	DomainText          string
	TypedExempt         string
	typed               *wireSAML // options as typed
}

// certificate is one that the identity provider signs with.
type certificate struct {
	Subject, Fingerprint string
	From, To             time.Time
	Days                 int    // left
	Tone                 string // ok, warn or bad
}

// namedAttribute is a field for the name of an attribute.
type namedAttribute struct{ Field, Label, Value, Hint string }

// How long before a certificate ends its administrator is told.
const certificateWarning = 30

func (c *Console) saml(w http.ResponseWriter, v *visit) error {
	return c.renderSAML(w, v, http.StatusOK, samlPage{Done: v.told()})
}

func (c *Console) renderSAML(w http.ResponseWriter, v *visit, status int, p samlPage) error {
	m, err := v.office()
	if err != nil {
		return err
	}
	p.Organization, p.Path = m, m.Path("settings", "saml")
	if err := v.api().get(nil, &p.wireSAML, "orgs", m.Login, "saml"); err != nil {
		return err
	}
	p.Configured = p.Descriptor != ""
	p.Until = p.ValidUntil.Time()
	for _, one := range p.wireSAML.Certificates {
		p.Certificates = append(p.Certificates, viewCertificate(c.config.Now(), one))
	}
	if p.typed != nil {
		t := p.typed
		p.Attributes, p.NameIDFormat, p.Domains = t.Attributes, t.NameIDFormat, t.Domains
		p.AllowIdPInitiated, p.AllowEncrypted, p.SignUp = t.AllowIdPInitiated, t.AllowEncrypted, t.SignUp
	}
	if p.TypedURL == "" && p.ProviderProblem == "" {
		p.TypedURL = p.DescriptorURL
	}
	p.DomainText, p.Names = strings.Join(p.Domains, "\n"), attributeFields(p.Attributes)
	if p.Configured {
		if err := c.watchSAML(v, &p); err != nil {
			return err
		}
	}
	view := v.part(m, "settings", "Single sign-on", p)
	view.Sub = settingsParts(m.Login, "saml")
	return c.render(w, v, status, "organization-saml", view)
}

// watchSAML adds how the provider fares, and who need not use it.
func (c *Console) watchSAML(v *visit, p *samlPage) error {
	org := p.Organization.Login
	var admins struct {
		Admins []wirePerson `json:"samlAdmins"`
	}
	if err := v.api().get(nil, &admins, "orgs", org, "saml", "admins"); err != nil {
		return err
	}
	if len(admins.Admins) > 0 {
		p.Exempt = admins.Admins[0].Login
	}
	if p.TypedExempt == "" {
		p.TypedExempt = p.Exempt
	}
	health := new(wireHealth)
	if err := v.api().get(nil, health, "orgs", org, "saml", "health"); err == nil {
		p.Health = health
	} else if !errors.Is(err, errs.NotFound) {
		return err
	}
	var list wireSignIns
	if err := v.api().get(url.Values{"maxResults": {"10"}}, &list, "orgs", org, "sign-ins"); err != nil {
		return err
	}
	p.Refused = viewSignIns(list.SignIns)
	return nil
}

func viewCertificate(now time.Time, one wireCertificate) certificate {
	out := certificate{Subject: one.Subject, Fingerprint: one.Fingerprint, From: one.NotBefore.Time(), To: one.NotAfter.Time(), Tone: "ok"}
	left := out.To.Sub(now)
	out.Days = int(left / (24 * time.Hour))
	switch {
	case left <= 0:
		out.Tone = "bad"
	case out.Days < certificateWarning, out.From.After(now):
		out.Tone = "warn"
	}
	return out
}

func attributeFields(a wireAttributes) []namedAttribute {
	return []namedAttribute{
		{"attribute-login", "Login", a.Login, "uid"}, {"attribute-name", "Full name", a.Name, "displayName"},
		{"attribute-first", "First name", a.FirstName, "givenName"}, {"attribute-last", "Last name", a.LastName, "sn"},
		{"attribute-email", "E-mail address", a.Email, "mail"}, {"attribute-groups", "Groups", a.Groups, "groups"},
	}
}

// patchSAML changes the settings and leads back to the page.
func (c *Console) patchSAML(w http.ResponseWriter, v *visit, in any, done string, again func(problem string) samlPage) error {
	n, err := v.names()
	if err != nil {
		return err
	}
	err = v.api().call(http.MethodPatch, nil, in, nil, "orgs", n.Organization, "saml")
	return c.after(w, v, err, n.Path("settings", "saml")+"?done="+done, func(status int, problem string) error {
		return c.renderSAML(w, v, status, again(problem))
	})
}

// prepareSAML makes our keys, so that our metadata can be fetched before there is a
// provider.
func (c *Console) prepareSAML(w http.ResponseWriter, v *visit) error {
	if _, err := v.form(w); err != nil {
		return err
	}
	return c.patchSAML(w, v, struct{}{}, "prepared", func(problem string) samlPage { return samlPage{Problem: problem} })
}

// changeProvider takes the provider's metadata in one of three ways.
func (c *Console) changeProvider(w http.ResponseWriter, v *visit) error {
	given, err := v.descriptorForm(w)
	if err != nil {
		return err
	}
	again := func(problem string) samlPage {
		return samlPage{TypedURL: given.URL, TypedText: given.Text, ProviderProblem: problem}
	}
	in, problem := given.change()
	if problem != "" {
		return c.renderSAML(w, v, http.StatusBadRequest, again(problem))
	}
	return c.patchSAML(w, v, in, "provider", again)
}

// changeSAML changes what is made of what the provider says.
func (c *Console) changeSAML(w http.ResponseWriter, v *visit) error {
	form, err := v.form(w)
	if err != nil {
		return err
	}
	field := func(name string) string { return strings.TrimSpace(form.Get(name)) }
	typed := wireSAML{
		Attributes: wireAttributes{
			Login: field("attribute-login"), Name: field("attribute-name"), FirstName: field("attribute-first"),
			LastName: field("attribute-last"), Email: field("attribute-email"), Groups: field("attribute-groups"),
		},
		NameIDFormat: field("format"), Domains: addresses(form.Get("domains")),
		AllowIdPInitiated: form.Get("idp-initiated") != "", AllowEncrypted: form.Get("encrypted") != "", SignUp: form.Get("sign-up") != "",
	}
	if typed.Domains == nil {
		typed.Domains = []string{}
	}
	in := map[string]any{
		"attributes": typed.Attributes, "nameIdFormat": typed.NameIDFormat, "domains": typed.Domains,
		"allowIdpInitiated": typed.AllowIdPInitiated, "allowEncrypted": typed.AllowEncrypted, "signUp": typed.SignUp,
	}
	return c.patchSAML(w, v, in, "saved", func(problem string) samlPage {
		return samlPage{typed: &typed, OptionsProblem: problem}
	})
}

// requireSAML says whether members have to use it.
func (c *Console) requireSAML(w http.ResponseWriter, v *visit) error {
	form, err := v.form(w)
	if err != nil {
		return err
	}
	n, err := v.names()
	if err != nil {
		return err
	}
	required, done := form.Get("required") == "yes", "optional"
	if required {
		done = "required"
	}
	err = v.api().call(http.MethodPatch, nil, map[string]bool{"setSsoRequired": required}, nil, "orgs", n.Organization)
	return c.after(w, v, err, n.Path("settings", "saml")+"?done="+done, func(status int, problem string) error {
		return c.renderSAML(w, v, status, samlPage{RequireProblem: problem})
	})
}

// changeSAMLAdministrator names the one who can mend a broken set-up.
func (c *Console) changeSAMLAdministrator(w http.ResponseWriter, v *visit) error {
	form, err := v.form(w)
	if err != nil {
		return err
	}
	n, err := v.names()
	if err != nil {
		return err
	}
	login := strings.TrimSpace(form.Get("login"))
	again := func(status int, problem string) error {
		return c.renderSAML(w, v, status, samlPage{TypedExempt: login, ExemptProblem: problem})
	}
	if !validName(login) {
		return again(http.StatusBadRequest, "Give the login of an administrator of the organization.")
	}
	err = v.api().call(http.MethodPost, nil, nil, nil, "orgs", n.Organization, "saml", "admins", login)
	if errors.Is(err, errs.NotFound) {
		return again(http.StatusNotFound, "Nobody here has the login "+login+".")
	}
	return c.after(w, v, err, n.Path("settings", "saml")+"?done=exempt", again)
}

func (c *Console) removeSAMLForm(w http.ResponseWriter, v *visit) error {
	return c.renderRemoveSAML(w, v, http.StatusOK, "")
}

func (c *Console) renderRemoveSAML(w http.ResponseWriter, v *visit, status int, problem string) error {
	m, err := v.office()
	if err != nil {
		return err
	}
	return c.render(w, v, status, "saml-remove", v.ask(m, "Remove single sign-on", removal{Organization: m, What: m.Login, Problem: problem}))
}

func (c *Console) removeSAML(w http.ResponseWriter, v *visit) error {
	form, err := v.form(w)
	if err != nil {
		return err
	}
	m, err := v.office()
	if err != nil {
		return err
	}
	again := func(status int, problem string) error { return c.renderRemoveSAML(w, v, status, problem) }
	if strings.TrimSpace(form.Get("confirm")) != m.Login {
		return again(http.StatusBadRequest, "That is not the name of the organization. Nothing is removed.")
	}
	err = v.api().call(http.MethodDelete, nil, nil, nil, "orgs", m.Login, "saml")
	return c.after(w, v, err, m.Path("settings", "saml")+"?done=saml-gone", again)
}
