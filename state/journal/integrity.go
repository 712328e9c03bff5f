package journal

import (
	"fmt"
	"strconv"
)

// check returns what is wrong with the deployment, or "": a client refuses to work
// with one whose references are not to something before them, or that has two live
// resources of one URN.
func (d *deployment) check() string {
	seen := make(map[string]bool, len(d.resources))
	live := make(map[string]bool, len(d.resources))
	providers := map[string]bool{}
	for _, r := range d.resources {
		if !r.custom && r.id != "" {
			return fmt.Sprintf("resource %s is not custom and has an ID", r.urn)
		}
		if r.live() && live[r.urn] {
			return fmt.Sprintf("two resources have the URN %s and neither waits for its deletion", r.urn)
		}
		if isProvider(r.typ) {
			if parts, ok := splitURN(r.urn); !ok || !isProvider(parts.base()) {
				return fmt.Sprintf("provider %s cannot be referred to", r.urn)
			}
			providers[r.reference()] = true
		}
		if problem := r.checkReferences(seen, providers); problem != "" {
			return problem
		}
		seen[r.urn] = true
		live[r.urn] = live[r.urn] || r.live()
	}
	return d.checkSnippets()
}

func (r *resource) checkReferences(seen, providers map[string]bool) string {
	problem := ""
	r.references(func(urn string) {
		if problem == "" && !seen[urn] {
			problem = fmt.Sprintf("resource %s refers to %s, which does not stand before it", r.urn, urn)
		}
	})
	if problem != "" || r.provider == "" {
		return problem
	}
	if _, _, err := splitProvider(r.provider); err != nil {
		return fmt.Sprintf("resource %s: %v", r.urn, err)
	}
	// A resource that waits to be created again may have lost its provider already.
	if !providers[r.provider] && !r.pending {
		return fmt.Sprintf("resource %s refers to the provider %s, which does not stand before it", r.urn, r.provider)
	}
	return ""
}

// checkSnippets returns what is wrong with the snippets: each needs a UUID of its own.
func (d *deployment) checkSnippets() string {
	if d.snippets == nil {
		return ""
	}
	seen := map[string]bool{}
	problem := ""
	c := lenient(d.snippets)
	_, err := c.array("snippets", func() error {
		var uuid string
		_, err := c.object("snippet", func(name []byte) error {
			if string(name) == "uuid" {
				return c.text("uuid", &uuid)
			}
			_, err := c.value()
			return err
		})
		switch {
		case problem != "":
		case uuid == "":
			problem = "a snippet has no uuid"
		case seen[uuid]:
			problem = fmt.Sprintf("two snippets have the uuid %q", uuid)
		}
		seen[uuid] = true
		return err
	})
	if err != nil {
		return "the snippets cannot be read"
	}
	return problem
}

// integrityMember is where a deployment's metadata tells clients what is wrong.
const integrityMember = "integrity_error"

// note writes the outcome of the check into the metadata.
func (d *deployment) note(problem string, version int) (err error) {
	if problem == "" && d.metadata == nil {
		return nil
	}
	e := edit{integrityMember, nil}
	if problem != "" {
		e.value = objectOf([]member{
			{"version", quote(nil, strconv.Itoa(version))},
			{"error", quote(nil, problem)},
		})
	}
	if d.metadata == nil {
		d.metadata = []byte("{}")
	}
	d.metadata, err = splice(d.metadata, []edit{e})
	return err
}
