package journal

import (
	"bytes"
	"fmt"
)

// normalise rewrites every URN that the deployment's resources have as an alias to
// the URN of its resource, and removes the aliases. A resource whose parent changed
// its type changes its own URN with it. An alias that two resources claim is left
// alone, and the first such is returned as a problem. It also returns how a URN is
// rewritten.
func (d *deployment) normalise() (problem string, rename func(string) string, err error) {
	left := d.room()
	aliased, problem := d.aliased(&left)
	aliased = settle(aliased)
	rename = func(urn string) string {
		if renamed, ok := aliased[urn]; ok {
			return renamed
		}
		return urn
	}
	for i, r := range d.resources {
		if len(aliased) == 0 && len(r.aliases) == 0 {
			continue
		}
		if !left.spend(r.growth(rename)) {
			problem = tooLong
			continue
		}
		edits := r.renamed(rename)
		if len(r.aliases) > 0 {
			edits = append(edits, edit{"aliases", nil})
		}
		if d.resources[i], err = r.with(edits...); err != nil {
			return "", nil, err
		}
	}
	if len(aliased) > 0 && d.snippets != nil {
		w := newRewriter(d.snippets, rename)
		if _, err := w.c.array("snippets", w.snippet); err != nil {
			return "", nil, err
		}
		d.snippets = w.result()
	}
	return problem, rename, nil
}

// room bounds by how much new names may make a deployment longer. Without it a few
// megabytes of references to a short alias of a long URN would need more memory than
// there is.
type room int

const (
	freeRoom = 16 << 20
	tooLong  = "the names that aliases and parents lead to make the deployment too long"
)

func (d *deployment) room() room {
	sum := freeRoom
	for _, r := range d.resources {
		sum += len(r.raw)
	}
	return room(sum)
}

// spend takes n bytes, unless so many are not left.
func (l *room) spend(n int) bool {
	if n > int(*l) {
		return false
	}
	*l -= room(n)
	return true
}

// growth returns how much longer the resource becomes when its URNs are rewritten.
func (r *resource) growth(rename func(string) string) int {
	sum := 0
	add := func(urn string) { sum += max(0, len(rename(urn))-len(urn)) }
	r.references(add)
	add(r.urn)
	add(r.viewOf)
	if urn, _, ok := r.providerParts(); ok {
		add(urn)
	}
	return sum
}

// aliased maps each old URN to the one it became.
func (d *deployment) aliased(left *room) (aliased map[string]string, problem string) {
	aliased = map[string]string{}
	disputed := map[string]bool{}
	for _, r := range d.resources {
		for _, alias := range r.aliases {
			other, taken := aliased[alias]
			if taken && other != r.urn {
				disputed[alias] = true
				if problem == "" {
					problem = fmt.Sprintf("resources %s and %s have the same alias %s", other, r.urn, alias)
				}
				continue
			}
			aliased[alias] = r.urn
		}
		if _, claimed := aliased[r.urn]; claimed {
			continue // what its successor calls itself counts
		}
		if !left.spend(len(aliased[r.parent])) {
			return aliased, tooLong
		}
		if renamed, changed := r.underRenamed(aliased[r.parent]); changed {
			aliased[r.urn] = renamed
		}
	}
	for alias := range disputed {
		delete(aliased, alias)
	}
	return aliased, problem
}

// underRenamed returns the URN of r when its parent is called parent now. Only a URN
// that was made from its recorded parent's is made anew: one that a refresh has moved
// to an ancestor keeps the URN that the program knows it by.
func (r *resource) underRenamed(parent string) (string, bool) {
	before, known := splitURN(r.parent)
	now, renamed := splitURN(parent)
	self, valid := splitURN(r.urn)
	if !known || !renamed || !valid || now.qualified == rootStackType {
		return "", false
	}
	if self.qualified != before.qualified+"$"+self.base() && self.qualified != self.base() {
		return "", false
	}
	self.qualified = now.qualified + "$" + self.base()
	return self.String(), self.String() != r.urn
}

// settle maps each old URN to what it has become in the end. Resources that swapped
// their names point at each other; there one step is all that can be meant.
func settle(aliased map[string]string) map[string]string {
	settled := make(map[string]string, len(aliased))
	for urn := range aliased {
		var path []string
		step := map[string]int{}
		for at := urn; ; at = aliased[at] {
			last, known := settled[at]
			next, more := aliased[at]
			first, circle := step[at]
			switch {
			case known:
			case circle:
				for _, at := range path[first:] {
					settled[at] = aliased[at]
				}
				path, last = path[:first], settled[at]
			case !more || next == at:
				last = at
			default:
				step[at] = len(path)
				path = append(path, at)
				continue
			}
			for _, at := range path {
				settled[at] = last
			}
			break
		}
	}
	return settled
}

// renamed returns the edits that rewrite the URNs of a resource, aliases aside.
func (r *resource) renamed(rename func(string) string) []edit {
	var edits []edit
	one := func(name, urn string) {
		if renamed := rename(urn); urn != "" && renamed != urn {
			edits = append(edits, edit{name, quote(nil, renamed)})
		}
	}
	list := func(urns []string) (renamed []string, changed bool) {
		for _, urn := range urns {
			fixed := rename(urn)
			changed = changed || fixed != urn
			renamed = append(renamed, fixed)
		}
		return renamed, changed
	}
	one("urn", r.urn)
	one("parent", r.parent)
	one("deletedWith", r.deletedWith)
	one("viewOf", r.viewOf)
	if urn, id, ok := r.providerParts(); ok && rename(urn) != urn {
		edits = append(edits, edit{"provider", quote(nil, rename(urn)+"::"+id)})
	}
	if urns, changed := list(r.dependencies); changed {
		edits = append(edits, edit{"dependencies", quoteList(urns)})
	}
	if urns, changed := list(r.replaceWith); changed {
		edits = append(edits, edit{"replaceWith", quoteList(urns)})
	}
	var properties []member
	anyChanged := false
	for _, p := range r.properties {
		urns, changed := list(p.urns)
		anyChanged = anyChanged || changed
		properties = append(properties, member{p.name, quoteList(urns)})
	}
	if anyChanged {
		edits = append(edits, edit{"propertyDependencies", bytes.Clone(objectOf(properties))})
	}
	return edits
}
