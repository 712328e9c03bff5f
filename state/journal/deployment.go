package journal

import (
	"bytes"
	"errors"
	"strconv"

	"github.com/ipuka/ipuka/internal/errs"
)

// Schema versions of a deployment. A deployment that uses a feature has the newest
// one, so that a client which does not know the feature refuses to read it.
const (
	oldestVersion  = 1
	plainVersion   = 3
	featureVersion = 4
)

// deployment is a state of a stack, as far as replay has to understand it.
type deployment struct {
	provider   *secretsProvider
	resources  []*resource
	operations []*operation
	metadata   []byte // nil: none
	snippets   []byte // nil: none
	extensions []member
	rest       []member // what this package does not know
	foreign    []string // declared features that this package does not know
	bytes      bool     // may hold byte strings, which nothing in its text shows
}

type secretsProvider struct {
	raw   []byte
	typ   string
	state []byte
}

// envelope is an untyped deployment.
type envelope struct {
	version    int64
	features   []string
	deployment *deployment // nil: null
	present    bool        // whether there is a deployment member at all
}

// readEnvelope reads {"version":…,"features":…,"deployment":…}.
func readEnvelope(untyped []byte) (envelope, error) {
	var env envelope
	c := lenient(untyped)
	_, err := c.object("the deployment", func(name []byte) (err error) {
		switch string(name) {
		case "version":
			err = c.number("version", &env.version)
		case "features":
			err = c.texts("features", &env.features)
		case "deployment":
			env.present = true
			if !c.null() {
				env.deployment, err = readDeployment(c)
			}
		default:
			_, err = c.value()
		}
		return err
	})
	if err == nil {
		err = c.end()
	}
	return env, err
}

// readBase reads the deployment that an update started from. Nothing at all and null
// are empty deployments, as they are to the client.
func readBase(untyped []byte) (*deployment, error) {
	if len(bytes.TrimSpace(untyped)) == 0 {
		return &deployment{}, nil
	}
	env, err := readEnvelope(untyped)
	if err != nil {
		return nil, errs.Errorf(errs.Invalid, "the base deployment cannot be read: %w", err)
	}
	if env.deployment == nil {
		env.deployment = &deployment{}
	}
	if env.version == 1 || env.version == 2 {
		if err := env.deployment.migrate(); err != nil {
			return nil, errs.Errorf(errs.Invalid, "the base deployment cannot be read: %w", err)
		}
	}
	for _, name := range env.features {
		switch featureBit(name) {
		case 0:
			env.deployment.foreign = append(env.deployment.foreign, name)
		case byteString:
			env.deployment.bytes = true
		}
	}
	return env.deployment, nil
}

// readDeployment consumes a deployment object.
func readDeployment(c *cursor) (*deployment, error) {
	d := &deployment{}
	_, err := c.object("the deployment", func(name []byte) error {
		if c.null() {
			return nil
		}
		return d.field(c, name)
	})
	if err != nil {
		return nil, err
	}
	return d, nil
}

func (d *deployment) field(c *cursor, name []byte) (err error) {
	switch string(name) {
	case "resources":
		_, err = c.array("resources", func() error {
			r, err := readResource(c, "resource "+strconv.Itoa(len(d.resources)))
			d.resources = append(d.resources, r)
			return err
		})
	case "pending_operations":
		_, err = c.array("pending_operations", func() error {
			o, err := readOperation(c)
			d.operations = append(d.operations, o)
			return err
		})
	case "secrets_providers":
		d.provider, err = readProvider(c)
	case "snippets":
		d.snippets, err = readSnippets(c)
	case "extensions":
		_, err = c.object("extensions", func(name []byte) error {
			value, err := c.value()
			d.extensions = append(d.extensions, member{string(name), value})
			return err
		})
	case "metadata":
		d.metadata, err = c.object("metadata", func([]byte) error {
			_, err := c.value()
			return err
		})
	case "manifest":
		_, err = c.value() // every deployment that is written has a new one
	default:
		var value []byte
		value, err = c.value()
		d.rest = append(d.rest, member{string(name), value})
	}
	return err
}

func readProvider(c *cursor) (*secretsProvider, error) {
	p := &secretsProvider{}
	raw, err := c.object("the secrets provider", func(name []byte) (err error) {
		switch string(name) {
		case "type":
			err = c.text("type", &p.typ)
		case "state":
			p.state, err = c.value()
		default:
			_, err = c.value()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	p.raw = raw
	return p, nil
}

// readSnippets consumes the array; an empty one is no snippets.
func readSnippets(c *cursor) ([]byte, error) {
	empty := true
	raw, err := c.array("snippets", func() error {
		empty = false
		if c.dec.PeekKind() != '{' {
			return errors.New("a snippet is not an object")
		}
		_, err := c.value()
		return err
	})
	if err != nil || empty {
		return nil, err
	}
	return raw, nil
}

// migrate brings the resources of schema versions 1 and 2 up to version 3, which
// says for each input what it depends on: there, on all that the resource depends on.
func (d *deployment) migrate() error {
	for i, r := range d.resources {
		if len(r.dependencies) == 0 || r.properties != nil {
			continue
		}
		urns := quoteList(r.dependencies)
		var inputs []member
		c := lenient(r.raw)
		_, err := c.object("resource", func(name []byte) error {
			if string(name) != "inputs" || c.dec.PeekKind() != '{' {
				_, err := c.value()
				return err
			}
			_, err := c.object("inputs", func(name []byte) error {
				inputs = append(inputs, member{string(name), urns})
				_, err := c.value()
				return err
			})
			return err
		})
		if err != nil {
			return err
		}
		if d.resources[i], err = r.with(edit{"propertyDependencies", objectOf(inputs)}); err != nil {
			return err
		}
	}
	return nil
}
