package journal

import (
	"errors"
	"fmt"
	"strings"
)

// resource is one resource state: its exact text, and the fields that replay looks
// at. It is never changed, so entries and bases can share it.
type resource struct {
	raw []byte

	urn, typ, id        string
	parent, provider    string
	deletedWith, viewOf string
	dependencies        []string
	properties          []propertyDependency
	replaceWith         []string
	aliases             []string
	custom              bool
	condemned           bool // "delete": replaced already, to be deleted
	pending             bool // "pendingReplacement": deleted already, to be created again
	features            feature
}

type propertyDependency struct {
	name string
	urns []string
}

// readResource consumes a resource state.
func readResource(c *cursor, what string) (*resource, error) {
	r := &resource{}
	raw, err := c.object(what, func(name []byte) error { return r.field(c, name) })
	if err != nil {
		return nil, err
	}
	r.raw = raw
	if r.urn == "" || r.typ == "" {
		return nil, fmt.Errorf("%s has no urn or no type", what)
	}
	return r, nil
}

// parseResource reads a resource from a text of its own.
func parseResource(raw []byte) (*resource, error) { return readResource(lenient(raw), "resource") }

func (r *resource) field(c *cursor, name []byte) error {
	switch string(name) {
	case "urn":
		return c.text("urn", &r.urn)
	case "type":
		return c.text("type", &r.typ)
	case "id":
		return c.text("id", &r.id)
	case "parent":
		return c.text("parent", &r.parent)
	case "provider":
		return c.text("provider", &r.provider)
	case "deletedWith":
		return c.text("deletedWith", &r.deletedWith)
	case "custom":
		return c.flag("custom", &r.custom)
	case "delete":
		return c.flag("delete", &r.condemned)
	case "pendingReplacement":
		return c.flag("pendingReplacement", &r.pending)
	case "dependencies":
		return c.texts("dependencies", &r.dependencies)
	case "aliases":
		return c.texts("aliases", &r.aliases)
	case "propertyDependencies":
		return r.readProperties(c)
	case "replaceWith":
		err := c.texts("replaceWith", &r.replaceWith)
		r.features.set(replaceWith, len(r.replaceWith) > 0)
		return err
	case "viewOf":
		err := c.text("viewOf", &r.viewOf)
		r.features.set(views, r.viewOf != "")
		return err
	}
	return r.featureField(c, name)
}

// featureField reads the fields that only say that a feature is used.
func (r *resource) featureField(c *cursor, name []byte) error {
	var used bool
	var text string
	var err error
	switch string(name) {
	case "refreshBeforeUpdate":
		err = c.flag("refreshBeforeUpdate", &used)
		r.features.set(refreshBeforeUpdate, used)
	case "taint":
		err = c.flag("taint", &used)
		r.features.set(taint, used)
	case "extensionRef":
		err = c.text("extensionRef", &text)
		r.features.set(extensionParameterization, text != "")
	case "snippetID":
		err = c.text("snippetID", &text)
		r.features.set(snippetsPrototype, text != "")
	case "resourceHooks":
		if c.null() {
			r.features.set(hooks, false)
			return nil
		}
		_, err = c.object("resourceHooks", func([]byte) error {
			used = true
			_, err := c.value()
			return err
		})
		r.features.set(hooks, used)
	default:
		_, err = c.value()
	}
	return err
}

func (r *resource) readProperties(c *cursor) error {
	r.properties = nil
	if c.null() {
		return nil
	}
	_, err := c.object("propertyDependencies", func(name []byte) error {
		p := propertyDependency{name: string(name)}
		if err := c.texts("propertyDependencies", &p.urns); err != nil {
			return err
		}
		r.properties = append(r.properties, p)
		return nil
	})
	return err
}

// with returns the resource with edits applied.
func (r *resource) with(edits ...edit) (*resource, error) {
	if len(edits) == 0 {
		return r, nil
	}
	raw, err := splice(r.raw, edits)
	if err != nil {
		return nil, err
	}
	return parseResource(raw)
}

// flagged returns the resource with the flags set that are asked for.
func (r *resource) flagged(condemned, pending bool) (*resource, error) {
	var edits []edit
	if condemned && !r.condemned {
		edits = append(edits, edit{"delete", []byte("true")})
	}
	if pending && !r.pending {
		edits = append(edits, edit{"pendingReplacement", []byte("true")})
	}
	return r.with(edits...)
}

// live reports whether the resource is the one that its URN stands for.
func (r *resource) live() bool { return !r.condemned }

// references calls fn with every URN that must stand before the resource in a
// deployment; the provider is not among them.
func (r *resource) references(fn func(urn string)) {
	call := func(urn string) {
		if urn != "" {
			fn(urn)
		}
	}
	call(r.parent)
	call(r.deletedWith)
	for _, urn := range r.dependencies {
		call(urn)
	}
	for _, p := range r.properties {
		for _, urn := range p.urns {
			call(urn)
		}
	}
	for _, urn := range r.replaceWith {
		call(urn)
	}
}

// URNs have the form urn:pulumi:STACK::PROJECT::PARENT$TYPE::NAME; a name may contain
// the separator.
const (
	urnPrefix     = "urn:pulumi:"
	rootStackType = "pulumi:pulumi:Stack"
	providerType  = "pulumi:providers:"
	unknownID     = "04da6b54-80e4-46f7-96ec-b56ff0331ba9" // what a provider reference carries for an ID not known yet
)

type urnParts struct{ stack, project, qualified, name string }

func splitURN(urn string) (urnParts, bool) {
	rest, ok := strings.CutPrefix(urn, urnPrefix)
	if !ok {
		return urnParts{}, false
	}
	parts := strings.SplitN(rest, "::", 4)
	if len(parts) != 4 {
		return urnParts{}, false
	}
	return urnParts{parts[0], parts[1], parts[2], parts[3]}, true
}

func (u urnParts) String() string {
	return urnPrefix + u.stack + "::" + u.project + "::" + u.qualified + "::" + u.name
}

// base returns the type without the parents' types.
func (u urnParts) base() string { return u.qualified[strings.LastIndex(u.qualified, "$")+1:] }

// isProvider reports whether typ is the type of a provider resource.
func isProvider(typ string) bool {
	name, ok := strings.CutPrefix(typ, providerType)
	return ok && name != ""
}

// splitProvider takes a provider reference, URN::ID, apart.
func splitProvider(reference string) (urn, id string, err error) {
	i := strings.LastIndex(reference, "::")
	if i < 0 {
		return "", "", errors.New("a provider reference has the form URN::ID")
	}
	urn, id = reference[:i], reference[i+2:]
	parts, ok := splitURN(urn)
	if !ok || !isProvider(parts.base()) {
		return "", "", errors.New("a provider reference names a provider resource")
	}
	return urn, id, nil
}

// providerParts takes the reference to the resource's own provider apart.
func (r *resource) providerParts() (urn, id string, ok bool) {
	urn, id, err := splitProvider(r.provider)
	return urn, id, err == nil
}

// reference returns how others refer to a provider resource.
func (r *resource) reference() string {
	if r.id == "" {
		return r.urn + "::" + unknownID
	}
	return r.urn + "::" + r.id
}
