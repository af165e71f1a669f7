package server

import (
	"context"
	"encoding/json"

	"arca/internal/api"
	"arca/internal/storage"
	"arca/internal/sys"
)

// cors reads what sys/config/cors has set. It is asked for requests from
// browsers only.
func (n *node) cors() *api.CORS {
	a := n.core.Active()
	if a == nil {
		return nil
	}
	var set sys.CORS
	err := a.DB.View(context.Background(), func(tx storage.Tx) error {
		raw, err := tx.Get(sys.CORSKey)
		if err != nil {
			return err
		}
		return json.Unmarshal(raw, &set)
	})
	if err != nil { // not set, or the node is sealing: other origins stay out
		return nil
	}
	return &api.CORS{Origins: set.Origins, Headers: set.Headers}
}
