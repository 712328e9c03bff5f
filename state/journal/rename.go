package journal

import (
	"strings"

	"github.com/ipuka/ipuka/internal/errs"
)

// Names are the names that a stack goes by. All three are needed.
type Names struct{ Organization, Project, Stack string }

// serviceProvider is the type of the secrets provider that the service itself is.
const serviceProvider = "service"

// Rename returns an untyped deployment in which the stack is called to and no longer
// from. It rewrites the stack and the project in each URN of that stack, wherever a
// URN is expected: urn, parent, provider, dependencies, propertyDependencies,
// deletedWith, replaceWith, viewOf and aliases of resources and pending operations,
// resource references and outputs in properties, references of snippets. It renames
// the root stack resource, <project>-<stack>, and the owner, project and stack of the
// service's secrets provider where they are those of from. URNs of other stacks and
// all other bytes stay. Renaming back gives the same bytes again unless a name was
// written with escapes.
//
// A deployment that cannot be read is errs.Invalid.
func Rename(untyped []byte, from, to Names) ([]byte, error) {
	w := newRewriter(untyped, func(urn string) string { return renameURN(urn, from, to) })
	_, err := w.c.object("the deployment", func(name []byte) error {
		if string(name) != "deployment" || w.c.dec.PeekKind() != '{' {
			return w.skip()
		}
		_, err := w.c.object("deployment", func(name []byte) error { return w.member(name, from, to) })
		return err
	})
	if err == nil {
		err = w.c.end()
	}
	if err != nil {
		return nil, errs.Errorf(errs.Invalid, "the deployment cannot be read: %w", err)
	}
	return w.result(), nil
}

// renameURN returns urn with the names of to when it is one of the stack from.
func renameURN(urn string, from, to Names) string {
	parts, ok := splitURN(urn)
	if !ok || parts.stack != from.Stack || parts.project != from.Project {
		return urn
	}
	parts.stack, parts.project = to.Stack, to.Project
	if parts.qualified == rootStackType {
		parts.name = to.Project + "-" + to.Stack
	}
	return parts.String()
}

// member consumes a member of a deployment.
func (w *rewriter) member(name []byte, from, to Names) error {
	kind := w.c.dec.PeekKind()
	switch {
	case kind == '{' && string(name) == "secrets_providers":
		return w.secrets(from, to)
	case kind != '[':
		return w.skip()
	}
	element := w.skip
	switch string(name) {
	case "resources":
		element = w.resource
	case "pending_operations":
		element = w.operation
	case "snippets":
		element = w.snippet
	}
	_, err := w.c.array(string(name), element)
	return err
}

func (w *rewriter) operation() error {
	if w.c.dec.PeekKind() != '{' {
		return w.skip()
	}
	_, err := w.c.object("operation", func(name []byte) error {
		if string(name) == "resource" {
			return w.resource()
		}
		return w.skip()
	})
	return err
}

// secrets consumes the secrets provider. Only the service's own has names in it, and
// they are changed together or not at all.
func (w *rewriter) secrets(from, to Names) error {
	var typ, owner, project, stack string
	var patches []patch
	name := func(was *string, now string) error {
		p, changed, err := w.text(func(text string) string {
			*was = text
			return now
		})
		if changed {
			patches = append(patches, p)
		}
		return err
	}
	_, err := w.c.object("secrets_providers", func(field []byte) error {
		switch {
		case string(field) == "type":
			return w.text1(&typ)
		case string(field) != "state" || w.c.dec.PeekKind() != '{':
			return w.skip()
		}
		_, err := w.c.object("state", func(field []byte) error {
			switch string(field) {
			case "owner":
				return name(&owner, to.Organization)
			case "project":
				return name(&project, to.Project)
			case "stack":
				return name(&stack, to.Stack)
			}
			return w.skip()
		})
		return err
	})
	ours := strings.EqualFold(owner, from.Organization) && project == from.Project && stack == from.Stack
	if typ == serviceProvider && ours {
		w.patches = append(w.patches, patches...)
	}
	return err
}
