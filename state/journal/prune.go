package journal

// prune walks the resources in order and removes references to what does not stand
// before the resource: a refresh may find that a resource is gone which others still
// name. Children of a vanished parent go to its nearest ancestor that is there. With
// salvage, providers that are missing are put back as well.
func (d *deployment) prune(g *graveyard, salvage bool) error {
	p := &pruner{
		graveyard: g,
		seen:      make(map[string]bool, len(d.resources)),
		current:   map[string]string{},
		salvage:   salvage,
		left:      d.room(),
	}
	p.exists = p.seen
	if !salvage {
		// A parent that stands too late is wrong, but it is not gone.
		p.exists = make(map[string]bool, len(d.resources))
		for _, r := range d.resources {
			p.exists[r.urn] = true
		}
	}
	p.out = make([]*resource, 0, len(d.resources))
	for _, r := range d.resources {
		if err := p.keep(r); err != nil {
			return err
		}
	}
	d.resources = p.out
	return nil
}

type pruner struct {
	*graveyard
	seen    map[string]bool   // URNs and, with salvage, provider references
	exists  map[string]bool   // URNs that can be parents
	current map[string]string // reference of the live provider of a URN
	salvage bool
	left    room
	out     []*resource
}

// keep appends r with its references put right.
func (p *pruner) keep(r *resource) error {
	edits := p.edits(r)
	if p.salvage && r.provider != "" && !r.pending && !p.seen[r.provider] {
		more, err := p.restore(r)
		if err != nil {
			return err
		}
		edits = append(edits, more...)
	}
	pruned, err := r.with(edits...)
	if err != nil {
		return err
	}
	p.place(pruned)
	return nil
}

func (p *pruner) place(r *resource) {
	p.out = append(p.out, r)
	p.seen[r.urn] = true
	if !p.salvage || !isProvider(r.typ) {
		return
	}
	p.seen[r.reference()] = true
	if r.live() {
		p.current[r.urn] = r.reference()
	}
}

// restore makes the provider of r available: as another one of the same URN, or by
// putting the provider back.
func (p *pruner) restore(r *resource) ([]edit, error) {
	urn, id, ok := r.providerParts()
	if !ok {
		return nil, nil // the integrity check reports it
	}
	if other := p.current[urn]; other != "" {
		if !p.left.spend(len(other)) {
			return nil, nil
		}
		return []edit{{"provider", quote(nil, other)}}, nil
	}
	back, err := p.provider(urn, id)
	if err != nil {
		return nil, err
	}
	if back, err = back.with(p.edits(back)...); err != nil {
		return nil, err
	}
	p.place(back)
	return nil, nil
}

// edits returns what removes the dangling references of r, its provider's aside.
func (p *pruner) edits(r *resource) []edit {
	var edits []edit
	list := func(name string, urns []string) {
		if left := p.known(urns); len(left) < len(urns) {
			edits = append(edits, edit{name, listOrNothing(left)})
		}
	}
	list("dependencies", r.dependencies)
	list("replaceWith", r.replaceWith)
	if r.deletedWith != "" && !p.seen[r.deletedWith] {
		edits = append(edits, edit{"deletedWith", nil})
	}
	var properties []member
	dangling := false
	for _, property := range r.properties {
		left := p.known(property.urns)
		dangling = dangling || len(left) < len(property.urns)
		if len(left) > 0 {
			properties = append(properties, member{property.name, quoteList(left)})
		}
	}
	switch {
	case dangling && len(properties) == 0:
		edits = append(edits, edit{"propertyDependencies", nil})
	case dangling:
		edits = append(edits, edit{"propertyDependencies", objectOf(properties)})
	}
	if r.parent != "" && !p.exists[r.parent] {
		var parent []byte
		if ancestor := p.ancestor(r.parent, p.exists); ancestor != "" && p.left.spend(len(ancestor)) {
			parent = quote(nil, ancestor)
		}
		edits = append(edits, edit{"parent", parent})
	}
	return edits
}

func (p *pruner) known(urns []string) []string {
	var left []string
	for _, urn := range urns {
		if p.seen[urn] {
			left = append(left, urn)
		}
	}
	return left
}

func listOrNothing(urns []string) []byte {
	if len(urns) == 0 {
		return nil
	}
	return quoteList(urns)
}
