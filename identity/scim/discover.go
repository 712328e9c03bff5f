package scim

import (
	"net/http"

	"github.com/ipuka/ipuka/internal/errs"
)

// discover answers with what this service can do (RFC 7644 §4).
func (c *call) discover(what, id string) error {
	if c.r.Method != http.MethodGet && c.r.Method != http.MethodHead {
		c.w.Header().Set("Allow", "GET")
		return errs.Errorf(errs.NotAllowed, "the method of this resource is GET")
	}
	if c.r.URL.Query().Has("filter") { // RFC 7644 §4 wants exactly this
		return errs.Errorf(errs.Forbidden, "%s cannot be filtered", what)
	}
	var all []resource
	switch what {
	case "ServiceProviderConfig":
		if id != "" {
			return errNoResource()
		}
		write(c.w, http.StatusOK, serviceProviderConfig(c.base))
		return nil
	case "ResourceTypes":
		all = resourceTypes(c.base)
	case "Schemas":
		all = schemas(c.base)
	}
	if id == "" {
		write(c.w, http.StatusOK, resource{
			"schemas": []string{listSchema}, "totalResults": len(all), "startIndex": 1, "itemsPerPage": len(all), "Resources": all,
		})
		return nil
	}
	for _, r := range all {
		if r["id"] == id {
			write(c.w, http.StatusOK, r)
			return nil
		}
	}
	return errNoResource()
}

const configSchemas = "urn:ietf:params:scim:schemas:core:2.0:"

func serviceProviderConfig(base string) resource {
	supported := func(yes bool) resource { return resource{"supported": yes} }
	return resource{
		"schemas":        []string{configSchemas + "ServiceProviderConfig"},
		"patch":          supported(true),
		"bulk":           resource{"supported": false, "maxOperations": 0, "maxPayloadSize": 0},
		"filter":         resource{"supported": true, "maxResults": maxCount},
		"changePassword": supported(false),
		"sort":           supported(true),
		"etag":           supported(true),
		"authenticationSchemes": []resource{{
			"type": "oauthbearertoken", "name": "Bearer token", "primary": true,
			"description": "The SCIM token of the organization, as Authorization: Bearer", "specUri": "https://www.rfc-editor.org/rfc/rfc6750",
		}},
		"meta": resource{"resourceType": "ServiceProviderConfig", "location": base + "/ServiceProviderConfig"},
	}
}

func resourceTypes(base string) []resource {
	kind := func(name, path, schema, description string) resource {
		return resource{
			"schemas": []string{configSchemas + "ResourceType"}, "id": name, "name": name, "endpoint": path, "schema": schema,
			"description": description, "schemaExtensions": []resource{},
			"meta": resource{"resourceType": "ResourceType", "location": base + "/ResourceTypes/" + name},
		}
	}
	return []resource{
		kind("User", "/Users", userSchema, "An account that the organization manages"),
		kind("Group", "/Groups", groupSchema, "A team whose members the identity provider keeps"),
	}
}

// attribute is an attribute of RFC 7643 §7 with what most of them have.
func attribute(name, kind, description string, changes resource) resource {
	r := resource{
		"name": name, "type": kind, "description": description, "multiValued": false, "required": false, "caseExact": false,
		"mutability": "readWrite", "returned": "default", "uniqueness": "none",
	}
	for key, value := range changes {
		r[key] = value
	}
	if kind == "boolean" || kind == "complex" {
		delete(r, "caseExact")
	}
	return r
}

func schemas(base string) []resource {
	kind := func(id, name, description string, attributes ...resource) resource {
		return resource{
			"schemas": []string{configSchemas + "Schema"}, "id": id, "name": name, "description": description, "attributes": attributes,
			"meta": resource{"resourceType": "Schema", "location": base + "/Schemas/" + id},
		}
	}
	text := func(name, description string) resource { return attribute(name, "string", description, nil) }
	readOnly := resource{"mutability": "readOnly", "caseExact": true}
	reference := func(to string) []resource {
		return []resource{
			attribute("value", "string", "The id of the "+to, resource{"mutability": "immutable", "caseExact": true}),
			attribute("$ref", "reference", "The URL of the "+to, resource{"mutability": "readOnly", "caseExact": true, "referenceTypes": []string{to}}),
			attribute("display", "string", "The name of the "+to, resource{"mutability": "readOnly"}),
			attribute("type", "string", "What the value is", resource{"mutability": "readOnly"}),
		}
	}
	return []resource{
		kind(userSchema, "User", "An account that the organization manages",
			attribute("userName", "string", "The subject with which the user signs in by SAML", resource{"required": true, "uniqueness": "server"}),
			attribute("externalId", "string", "What the identity provider calls the user", resource{"caseExact": true}),
			text("displayName", "The name that is shown"),
			attribute("name", "complex", "The parts of the name", resource{"subAttributes": []resource{
				text("formatted", "The full name"), text("givenName", "The first name"), text("familyName", "The last name"),
			}}),
			attribute("emails", "complex", "E-mail addresses; the account gets the primary one, or else that for work", resource{
				"multiValued": true, "subAttributes": []resource{
					attribute("value", "string", "The address", resource{"required": true}),
					text("type", "What it is for, such as work"), text("display", "How it is shown"),
					attribute("primary", "boolean", "Whether it is the preferred one", nil),
				},
			}),
			attribute("active", "boolean", "Whether the account can be used", nil),
			attribute("groups", "complex", "The groups that the user is in", resource{
				"multiValued": true, "mutability": "readOnly", "subAttributes": reference("Group"),
			}),
			attribute("id", "string", "The id of the account", readOnly),
		),
		kind(groupSchema, "Group", "A team whose members the identity provider keeps",
			attribute("displayName", "string", "The name, at most 100 characters", resource{"required": true, "uniqueness": "server"}),
			attribute("externalId", "string", "What the identity provider calls the group", resource{"caseExact": true}),
			attribute("members", "complex", "The users in the group", resource{"multiValued": true, "subAttributes": reference("User")}),
			attribute("id", "string", "The id of the team", readOnly),
		),
	}
}
