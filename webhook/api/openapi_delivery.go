package api

import (
	"reflect"

	"github.com/gofiber/fiber/v2"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook"
	"github.com/edgaze-ai/runcounter/webhook/internal/openapi"
)

// deliverySchemas are what a delivery holds. They are written by hand, since deliveries are
// not decoded into a type: of a row the columns alone are read on which anything depends.
var deliverySchemas = map[string]openapi.Schema{
	"Delivery": {
		"description": "One change, as Supabase's own webhook sends it, or an array of changes, as Run Counter's own does.",
		"anyOf":       []openapi.Schema{openapi.Ref("Change"), {"type": "array", "items": openapi.Ref("Change"), "maxItems": webhook.MaxChanges}},
	},
	"Change": {
		"type": "object", "required": []string{"type", "schema", "table"},
		"description": "A change of a row. One of another table or of another type is ignored, and other members are passed over.",
		"properties": map[string]openapi.Schema{
			"type":       {"type": "string", "examples": []store.Op{store.Insert, store.Update, store.Delete}},
			"schema":     {"type": "string"},
			"table":      {"type": "string"},
			"record":     rowOrNull("The row after the change; null for a DELETE."),
			"old_record": rowOrNull("The row before the change, or its id alone; null for an INSERT."),
			"version": {"type": []string{"integer", "null"}, "minimum": 1,
				"description": "Orders the changes of a row. Run Counter's own trigger draws it while the row is locked."},
			"evidence": {"type": []string{"string", "null"}, "examples": []store.Mark{store.MarkPresumed, store.MarkSuperseding, store.MarkAmended},
				"description": "Why a row changed that had ended. Run Counter's own trigger says it."},
		},
	},
	"ChangedRow": {
		"type": "object",
		"description": "A row by its columns. These are read, where the table has not other names for them; all others are passed over. " +
			"Times are as PostgreSQL prints them, or integers where the operator said so.",
		"properties": map[string]openapi.Schema{
			"id":            anID.OrNull(),
			"user_id":       anID.OrNull(),
			"workflow_id":   anID.OrNull(),
			"draft_id":      anID.OrNull(),
			"status":        {"type": []string{"string", "null"}},
			"created_at":    aTimeOfARow,
			"started_at":    aTimeOfARow,
			"completed_at":  aTimeOfARow,
			"updated_at":    aTimeOfARow,
			"duration_ms":   {"type": []string{"number", "string", "null"}, "description": "Milliseconds."},
			"error_details": {"description": "Any JSON."},
		},
	},
}

var aTimeOfARow = openapi.Schema{"type": []string{"string", "integer", "null"}}

func rowOrNull(about string) openapi.Schema {
	return openapi.Schema{"description": about, "anyOf": []openapi.Schema{openapi.Ref("ChangedRow"), {"type": "null"}}}
}

// deliveryHeaders are those that a sender may add to one of the secrets.
var deliveryHeaders = []openapi.Parameter{
	{Name: "Prefer", In: "header", Description: "return=minimal asks for an answer without counts.", Schema: aText},
	{Name: "webhook-id", In: "header", Description: "Of a signed delivery: its id.", Schema: aText},
	{Name: "webhook-timestamp", In: "header", Description: "Of a signed delivery: when it was signed, in seconds since 1970.", Schema: aText},
	{Name: "webhook-proof", In: "header", Description: "Of a signed delivery: v1,BASE64 of the HMAC-SHA256 over proof.ID.TIMESTAMP, so that its sender is known before the body is read.", Schema: aText},
	{Name: "webhook-lost", In: "header", Description: "Of Run Counter's own trigger: how many calls were lost before this one, and a signature of that.", Schema: aText},
}

// delivery describes the receiver of deliveries at one of its addresses.
func (d describer) delivery(standIn bool) *openapi.Operation {
	op := &openapi.Operation{
		ID: "deliver", Tags: []string{"webhook"}, Summary: "Takes the changes of a webhook",
		Description: "200 is sent after the commit. A change that can't be read stops no other: it is among the refused, and kept as a dead letter.",
		Parameters:  deliveryHeaders,
		RequestBody: &openapi.RequestBody{Required: true, Content: map[string]openapi.Media{fiber.MIMEApplicationJSON: {Schema: openapi.Ref("Delivery")}}},
		Responses:   commonly(408, 413, 415, 503),
		Security:    secured(byWebhookToken, byWebhookSecret, bySignature),
	}
	if standIn {
		op.ID, op.Summary = "deliverToFunction", op.Summary+", in place of an Edge Function"
	}
	op.Responses["400"] = d.problem("Nothing of it can be read; detail says why.", 400)
	op.Responses["401"] = d.problem("There is no secret, or a wrong one, or the signature does not fit the body.", 401)
	op.Responses["403"] = d.problem("The server has no secret, and the request did not come from this machine.", 403)
	op.Responses["409"] = d.problem(notUnique, 409)
	op.Responses["200"] = &openapi.Response{
		Description: "All that could be read is committed.", Headers: map[string]openapi.Header{"X-Request-Id": requestID},
		Content: map[string]openapi.Media{fiber.MIMEApplicationJSON: {Schema: d.Of(reflect.TypeFor[webhook.Answer]())}},
	}
	return op
}
