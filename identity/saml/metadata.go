package saml

import (
	"context"
	"encoding/base64"
	"fmt"

	"github.com/beevik/etree"
	crewjam "github.com/crewjam/saml"
)

const metadataNS = "urn:oasis:names:tc:SAML:2.0:metadata"

// Metadata returns the description of an organization's service provider for its
// identity provider: public, and found by any name that the organization had. It is
// errs.NotFound before [Provider.Configure] has made keys.
//
// The encryption certificate is in it only while encrypted assertions are on, since
// identity providers encrypt for whoever shows one.
func (p *Provider) Metadata(ctx context.Context, organizationLogin string) ([]byte, error) {
	o, err := p.directory.Organization(ctx, organizationLogin)
	if err != nil {
		return nil, err
	}
	row, err := p.store.provider(ctx, o.ID)
	if err != nil {
		return nil, err
	}
	a := p.addresses(o)
	document := etree.NewDocument()
	document.CreateProcInst("xml", `version="1.0" encoding="UTF-8"`)
	root := document.CreateElement("md:EntityDescriptor")
	root.CreateAttr("xmlns:md", metadataNS)
	root.CreateAttr("xmlns:ds", signatureNS)
	root.CreateAttr("entityID", a.entityID)
	role := root.CreateElement("md:SPSSODescriptor")
	role.CreateAttr("AuthnRequestsSigned", "true")
	role.CreateAttr("WantAssertionsSigned", "true")
	role.CreateAttr("protocolSupportEnumeration", protocolNS)
	describe(role, signing, row.SigningCertificate)
	if row.Encrypted {
		method := describe(role, encryption, row.EncryptionCertificate)
		for _, algorithm := range []string{encryption11NS + "aes256-gcm", encryption11NS + "aes128-gcm", encryptionNS + "rsa-oaep-mgf1p"} {
			method.CreateElement("md:EncryptionMethod").CreateAttr("Algorithm", algorithm)
		}
	}
	for _, format := range row.formats() {
		role.CreateElement("md:NameIDFormat").SetText(format)
	}
	service := role.CreateElement("md:AssertionConsumerService")
	service.CreateAttr("Binding", crewjam.HTTPPostBinding)
	service.CreateAttr("Location", a.acs)
	service.CreateAttr("index", "0")
	service.CreateAttr("isDefault", "true")
	document.Indent(2)
	raw, err := document.WriteToBytes()
	if err != nil {
		return nil, fmt.Errorf("writing metadata: %w", err)
	}
	return raw, nil
}

// describe adds a key to a role.
func describe(role *etree.Element, u use, certificate []byte) *etree.Element {
	descriptor := role.CreateElement("md:KeyDescriptor")
	descriptor.CreateAttr("use", string(u))
	data := descriptor.CreateElement("ds:KeyInfo").CreateElement("ds:X509Data")
	data.CreateElement("ds:X509Certificate").SetText(base64.StdEncoding.EncodeToString(certificate))
	return descriptor
}
