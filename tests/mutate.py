"""Takes a rule out of a copy of the product and runs the test that must then fail: `python -m tests.mutate [WORD]`.

For the tests on real processes; the protocol's own rules are mutated in every run
(`tests/simulation/test_simulation.py`).
A mutation whose text is not found any more is an error: it has to be kept up with the product.
"""

import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.kit import guard, shared

ROOT = Path(__file__).parents[1]
AT_ONCE = 3
"""They wait for servers most of the time, which all share."""


@dataclass(frozen=True)
class Mutation:
    """`old` becomes `new` in `file`; `test` has to fail then."""

    rule: str
    file: str
    old: str
    new: str
    test: str


MUTATIONS = [
    Mutation(
        "vacuum goes on while a backfill has not ended",
        "agents/operations/vacuum.py",
        "if since := min(fills_in(notes).values(), default=None):",
        "if since := None:",
        "test_a_first_load_is_as_a_stream_would_have_made_it",
    ),
    Mutation(
        "what a document says tells where it goes, and not its headers",
        "streams/routes.py",
        "            document=replace(document, content_hash=self._told(document, space)),\n",
        "            document=document,\n",
        "test_an_edit_that_moves_a_document_leaves_no_old_vector_behind",
    ),
    Mutation(
        "what another model found keeps its own scores",
        "agents/operations/search.py",
        "hits += await rescorer.rescored(await _nearest(client, settings, generation, others, rescorer.most))",
        "hits += await _nearest(client, settings, generation, others, rescorer.most)",
        "test_all_hits_have_the_default_model_s_scores_and_their_order",
    ),
    Mutation(
        "a search that asks again embeds more than it may",
        "agents/operations/rescore.py",
        '[hit for hit in chosen if hit["id"] not in self._scores][: self.most - len(self._scores)]',
        "[hit for hit in chosen]",
        "test_each_text_is_embedded_once_and_never_more_than_asked_for",
    ),
    Mutation(
        "the mean decides what is recommended, and not its interval",
        "streams/route_plan.py",
        "ranked(point).change.low >= -most_lost",
        "ranked(point).change.mean >= -most_lost",
        "test_nothing_beats_the_frontier_and_what_is_recommended_is_on_it",
    ),
    Mutation(
        "chunks do not tell by which route they came",
        "streams/recover.py",
        "*([(ROUTE_HEADER, route.encode())] if route else [])",
        "",
        "test_other_routes_are_another_contract_and_a_rebuild_embeds_what_they_move",
    ),
    Mutation(
        "a rebuild takes vectors of any model",
        "agents/indexing/assembly.py",
        '        if not differences({"model": its}, {"model": model})\n',
        "        if other.dims == space.dims\n",
        "test_other_routes_are_another_contract_and_a_rebuild_embeds_what_they_move",
    ),
    Mutation(
        "vectors of the default model alone are looked at",
        "agents/operations/verify.py",
        "        numbers = range(len(assembly.parts.ways))\n",
        "        numbers = range(1)\n",
        "test_damage_in_any_field_is_found_and_mended",
    ),
    Mutation(
        "the canary is not looked at",
        "models/onnx/embedder.py",
        '        self._require(made.canary, AMONG_RUNS, "when it was loaded")\n',
        "",
        "test_a_model_that_is_swapped_under_load_writes_nothing_any_more",
    ),
    Mutation(
        "the canary is embedded by the lane that ends the first run",
        "models/onnx/embedder.py",
        "if next(left) == 0:",
        "if next(left) == len(made.runs) - 1:",
        "test_no_vector_of_a_model_that_was_swapped_is_returned",
    ),
    Mutation(
        "a worker proves its model with its batches alone",
        "agents/worker/model_watch.py",
        "                await self._pipeline.prove()\n",
        "                pass\n",
        "test_an_idle_worker_notices",
    ),
    Mutation(
        "what waits to be written is written though the model proved wrong",
        "agents/indexing/stages.py",
        """        parts = self._parts
        if self.changed:
            raise self.changed
""",
        "        parts = self._parts\n",
        "test_a_batch_that_waits_to_be_written_is_not",
    ),
    Mutation(
        "verify looks at no vector of a document",
        "agents/operations/verify.py",
        "                await means.check(report, vectors.documents)\n",
        "",
        "test_damage_is_found_and_mended_from_the_topic",
    ),
    Mutation(
        "documents without a vector are found by the sample alone",
        "agents/operations/document_vectors.py",
        """            found |= {hit["_source"]["metadata"]["doc_id"] for hit in hits}
""",
        "            del hits\n",
        "test_damage_is_found_and_mended_from_the_topic",
    ),
    Mutation(
        "the mean stays what it was when a chunk is embedded again",
        "agents/operations/verify.py",
        "                await of_documents.mend(sorted(means))\n",
        "",
        "test_damage_is_found_and_mended_from_the_topic",
    ),
    Mutation(
        "a refused batch is at fault as a whole",
        "models/api/asking.py",
        "        if len(members) == 1:\n            return await self._alone(batch, members[0], outcome)\n",
        "        for place in members:\n            batch.made.failed[place] = _failure(outcome)\n"
        "        if members:\n            return 1\n",
        "test_only_what_is_at_fault_has_no_vector",
    ),
    Mutation(
        "a service that refuses everything has found a bad text",
        "models/api/asking.py",
        "                        await self._require_control(outcome)\n",
        "",
        "test_a_service_that_refuses_everything_is_nobodys_fault",
    ),
    Mutation(
        "a text is blamed that the service takes without the control beside it",
        "models/api/asking.py",
        "            return await self._alone(batch, members[0], outcome)\n",
        "            batch.made.failed[members[0]] = _failure(outcome)\n            return 1\n",
        "test_a_text_that_is_taken_alone_and_not_beside_the_control_is_not_at_fault",
    ),
    Mutation(
        "nobody looks at the control",
        "models/api/asking.py",
        "    if cosine < GOLDEN[SERVICE]:",
        "    if False:",
        "test_a_worker_waits_for_a_service_and_for_its_quota_and_refuses_another_model",
    ),
    Mutation(
        "each worker takes the whole fleet's limits",
        "models/api/pace.py",
        "return 0.0 if limit is None else cost * 60 / (limit * HEADROOM * share)",
        "return 0.0 if limit is None else cost * 60 / (limit * HEADROOM)",
        "test_a_fleet_uses_what_it_may_and_no_more_in_any_minute",
    ),
    Mutation(
        "what was not used may be made up for without end",
        "models/api/pace.py",
        "        return max(clock, now) + _seconds(cost, limit, self.share)",
        "        return max(clock, 0.0) + _seconds(cost, limit, self.share)",
        "test_a_worker_that_was_idle_makes_up_for_little",
    ),
    Mutation(
        "what a service asks for is not waited for",
        "models/api/pace.py",
        "+ more_s - SPARE_S, self._held_until)",
        "+ more_s - SPARE_S)",
        "test_a_quota_that_is_used_up_is_waited_for_and_told",
    ),
    Mutation(
        "texts that are cut off without a word are found out by nobody",
        "models/api/add.py",
        "            await service.require_whole_texts()\n",
        "",
        "test_a_service_that_cuts_texts_off_is_found_out",
    ),
    Mutation(
        "a worker has the whole fleet's part",
        "agents/worker/app.py",
        "                model.take_share(len(numbers) / self.checked.partitions)\n",
        "                pass\n",
        "test_a_worker_takes_the_part_of_its_partitions",
    ),
    Mutation(
        "what is on its way to the topic counts in no lag",
        "agents/sources/http/admission.py",
        "self.max_lag - self.lag) - unseen - taken",
        "self.max_lag - self.lag)",
        "test_the_lag_stays_at_its_limit",
    ),
    Mutation(
        "a stop waits for nobody whom the HTTP source has not answered",
        "agents/sources/http/server.py",
        "while self._busy and deadline.left_s:",
        "while False:",
        "test_a_stop_waits_for_what_is_on_its_way_and_takes_nothing_new",
    ),
    Mutation(
        "letters may go although nobody has verified what the registry has as written",
        "agents/commands/run/dlq.py",
        "if identity and before_ms is None:",
        "if False and identity:",
        "test_nothing_is_taken_from_an_index_that_nobody_verified",
    ),
    Mutation(
        "a client that connects has the last word on a stop",
        "agents/kafka/reader.py",
        "await cancellable(partial(_start, consumer, admin))",
        "await _start(consumer, admin)",
        "test_a_stop_in_the_moment_that_a_connection_breaks_is_not_lost",
    ),
    Mutation(
        "an answer is worth more than a stop",
        "agents/kafka/reader.py",
        """                async with asyncio.timeout(deadline.left_s):
                    return await cancellable(call)""",
        "                return await asyncio.wait_for(call(), deadline.left_s)",
        "test_a_stop_in_the_moment_of_an_answer_is_not_lost",
    ),
    Mutation(
        "a partition that is gone is waited for",
        "agents/kafka/reader.py",
        "if not 0 <= partition < await self.require_partitions(topic):",
        "if False:",
        "test_a_letter_of_a_partition_that_is_gone_holds_up_no_other",
    ),
    Mutation(
        "only what a worker has noted can be verified",
        "agents/elastic/index.py",
        "notes.get(SHARDS_NOTE) in (before.get(SHARDS_NOTE), own)",
        "notes.get(SHARDS_NOTE) == own",
        "test_an_emptied_topic_needs_no_worker_to_be_verified",
    ),
    Mutation(
        "a group without claims has lost what retention took",
        "agents/worker/app.py",
        "checked.indexed if checked.unverified else {}",
        "checked.indexed",
        "test_a_group_without_claims_has_lost_nothing",
    ),
    Mutation(
        "what half a rebuild lacks is lost",
        "agents/operations/judge.py",
        "        if self.rebuilding:",
        "        if False:",
        "test_half_a_rebuild_has_lost_nothing",
    ),
    Mutation(
        "the way back leads to the index that serves",
        "agents/elastic/index.py",
        "way = with_group(CREATE, generation.group, self.group)",
        "way = CREATE",
        "test_the_way_back_names_the_group_of_the_index_before",
    ),
    Mutation(
        "what compaction took was deleted, whatever else the topic has",
        "agents/operations/judge.py",
        "            or self.spool.is_unread(doc, partition)\n",
        "",
        "test_a_rebuild_keeps_what_compaction_took_from_the_topic",
    ),
    Mutation(
        "a record elsewhere hides that a key was deleted where it moved to",
        "agents/operations/judge.py",
        "later = any(item.place[0] == partition and item.newest.version > made for item in known)",
        "later = bool(known)",
        "test_deletions_that_no_worker_saw",
    ),
    Mutation(
        "only the registry tells which record was the newest",
        "agents/operations/judge.py",
        "if newer and top and top.partition is not None and self.registry_set_back:",
        "if False and top and top.partition is not None:",
        "test_deletions_that_no_worker_saw",
    ),
    Mutation(
        "what a restored index lacks is told by nobody",
        "agents/worker/assignment.py",
        "self._indexed.get(number, start)",
        "start",
        "test_an_index_that_was_restored_lacks_what_retention_took_since",
    ),
    Mutation(
        "a broker's silence is an empty place",
        "agents/kafka/reader.py",
        "return (await self.records_at(topic, {partition: offset})).get(partition)",
        "return (await self.next_from(topic, partition, offset)).record",
        "test_that_nothing_came_is_no_empty_place",
    ),
    Mutation(
        "chunks do not tell which partition a forgotten key is on",
        "streams/registry.py",
        "if origin and _is_elsewhere(*origin, wanted) else Begin(intent)",
        "if False else Begin(intent)",
        "test_a_key_whose_registry_was_lost_stays_on_the_partition_of_its_chunks",
    ),
    Mutation(
        "what a base forgot while it was taken from is missed by nobody",
        "agents/operations/rebuild.py",
        "    await index.require_verified(identity, now.group)\n    if identity.shards != before.shards:",
        "    if False:",
        "test_nothing_is_taken_from_an_index_that_nobody_verified",
    ),
    Mutation(
        "a registry is completed after its contract was compared",
        "agents/elastic/index.py",
        "            await self._complete_registry(there.index)  # first: ways out of a refusal need one\n",
        "",
        "test_a_registry_is_lost_and_partitions_are_added",
    ),
    Mutation(
        "epochs are in the contract alone",
        "agents/elastic/index.py",
        "there = await self._remember(there, None if beside else history)",
        "pass",
        "test_epochs_that_only_claims_remember",
    ),
    Mutation(
        "a rebuild takes from whatever serves",
        "agents/elastic/index.py",
        "        if set_back(await self.notes(identity.index), identity.shards):\n            raise not_verified",
        "        if False:\n            raise not_verified",
        "test_nothing_is_taken_from_an_index_that_nobody_verified",
    ),
    Mutation(
        "stubs say nothing once the registry is lost",
        "agents/operations/verify.py",
        "query = WITH_STUBS if self._judge.registry_set_back else ALIVE",
        "query = ALIVE",
        "test_what_the_registry_alone_knew_is_made_again",
    ),
    Mutation(
        "an index that was deleted has lost nothing",
        "agents/operations/verify.py",
        "            await self._check_foreign([entry for entry in found if entry.chunk_index_uuid != uuid])\n",
        "",
        "test_documents_of_an_index_that_is_gone_are_named",
    ),
    Mutation(
        "a time-out is no failure to wait for",
        "agents/elastic/requests.py",
        "except ConnectionTimeout:  # a whole minute: it needs no second one\n",
        "except ConnectionTimeout:\n                raise\n",
        "test_what_is_not_answered_in_time_is_sent_again",
    ),
    Mutation(
        "whoever answers is Elasticsearch",
        "agents/elastic/client.py",
        "(meta.status < 400 or meta.status == 404)",
        "meta.status < 0",
        "test_whole_request_is_sent_again",
    ),
    Mutation(
        "a look at the log is for one batch",
        "agents/worker/assignment.py",
        "            partition.confirmed = None  #",
        "            pass  #",
        "test_a_topic_made_anew_is_seen_before_claims_hide_it",
    ),
    Mutation(
        "no claim without a look at the log",
        "agents/worker/assignment.py",
        "if partition.confirmed != partition.stored.offset}",
        "if False}",
        "test_a_topic_made_anew_is_seen_before_claims_hide_it",
    ),
    Mutation(
        "claimed records are read at every look",
        "agents/kafka/claims.py",
        "        self.note(due)\n        return bounds",
        "        return bounds",
        "test_a_spare_worker_reads_the_records_of_moving_claims_once_a_minute",
    ),
    Mutation(
        "breaker never opens",
        "streams/breaker.py",
        'self.state = "open"\n\n    def abandoned',
        'self.state = "closed"\n\n    def abandoned',
        "test_throttled_and_unavailable",
    ),
    Mutation(
        "no stubs over a refused document",
        "streams/protocol.py",
        "if rejected := [work for work in works if work.rejected]:",
        "if rejected := []:",
        "test_mixed_outcomes_of_one_bulk",
    ),
    Mutation(
        "one's own intent is swapped in again",
        "streams/protocol.py",
        "if before and before.entry == entry:",
        "if False:",
        "test_an_intent_of_ones_own_is_not_swapped_in_again",
    ),
    Mutation(
        "an unanswered request is not repeated",
        "agents/elastic/requests.py",
        "half of one\n                reason",
        "half of one\n                raise\n                reason",
        "test_elasticsearch_killed_and_started_again",
    ),
    Mutation(
        "413 is not divided",
        "agents/elastic/bulk.py",
        "if exc.status_code == 413:",
        "if exc.status_code == 414:",
        "test_documents_larger_than_a_batch_a_bulk_and_anything",
    ),
    Mutation(
        "a block is a refusal",
        "agents/elastic/errors.py",
        " or kind in SHUT",
        "",
        "test_index_blocked_as_by_a_full_disk and write",
    ),
    Mutation(
        "no budget",
        "agents/indexing/budget.py",
        "return self.used >= self.limit",
        "return False",
        "test_slow_elasticsearch_over_a_deep_backlog_keeps_to_the_budget",
    ),
    Mutation(
        "no watchdog",
        "agents/worker/watchdog.py",
        "if reasons := self.stalled():",
        "if reasons := []:",
        "test_watchdog_ends_a_worker_whose_claim_stands_still",
    ),
    Mutation(
        "offsets are committed as Faust counts them",
        "agents/worker/consumer.py",
        "acked = self._acked[tp]",
        "return super()._new_offset(tp)",
        "test_what_is_committed_follows_what_is_acked_over_every_hole",
    ),
    Mutation(
        "a hole is a gap",
        "agents/kafka/batches.py",
        "record.after = after",
        "record.after = record.offset",
        "test_a_log_full_of_holes_is_read_at_once",
    ),
    Mutation(
        "at lag 0 no moment is needed",
        "agents/operations/epoch.py",
        "newer = sum(ends[partition] - offset for partition, offset in begun.items())",
        "newer = 0",
        "test_what_was_settled_before_anybody_noticed_that_partitions_grew",
    ),
    Mutation(
        "an index made anew knows nothing of its log",
        "agents/elastic/index.py",
        "if history is not None:",
        "if False:",
        "test_an_index_made_anew_knows_that_partitions_were_added",
    ),
    Mutation(
        "purge takes letters that came while it looked",
        "agents/operations/letters.py",
        "    ends = {partition: bound.end",
        "    bounds = await reader.bounds(topic, bounds)\n    ends = {partition: bound.end",
        "test_a_letter_that_comes_while_others_are_purged_stays",
    ),
    Mutation(
        "an older record on another partition speaks for one that retention took",
        "agents/operations/judge.py",
        "return None if lost or (gone and older) else asked",
        "return None if lost else asked",
        "test_retention_takes_the_newer_records_of_keys_that_moved",
    ),
    Mutation(
        "repair stubs the only copy of a document",
        "agents/operations/verify.py",
        'entry.n if entry and entry.state == "done" else 0',
        "0",
        "test_retention_takes_the_newer_records_of_keys_that_moved",
    ),
    Mutation(
        "an older record's chunks are the newest one's",
        "streams/salvage.py",
        "lost = kept < (entry.version if wanted is None else wanted)",
        "lost = False",
        "test_content_that_nobody_has_any_more_is_named_and_there_is_an_end",
    ),
    Mutation(
        "a document that the registry does not know is nobody's",
        "agents/operations/judge.py",
        "return left if gone else None",
        "return left if gone and entry else None",
        "test_what_only_the_chunks_know_is_not_lost",
    ),
    Mutation(
        "what waits for a worker is an orphan",
        "agents/operations/judge.py",
        "if any(self._is_unsettled(partition, version) for partition, version in written):",
        "if False:",
        "test_what_only_the_chunks_know_is_not_lost",
    ),
    Mutation(
        "a registry that was set back knows what was deleted",
        "agents/operations/verify.py",
        'registry_set_back="registry" in set_back',
        "registry_set_back=bool(set_back)",
        "test_content_that_nobody_has_any_more_is_named_and_there_is_an_end",
    ),
    Mutation(
        "what a dead letter has is lost",
        "agents/operations/judge.py",
        "return key if self.spool.has_whole_letter(*key) else None",
        "return None",
        "test_content_that_a_dead_letter_has_is_not_lost",
    ),
    Mutation(
        "an older record's chunks speak for a key that moved",
        "agents/operations/judge.py",
        "asked = None if newer and self._is_gone(top.partition, top.record_version, seen) else asked",
        "asked = asked if newer else asked",
        "test_of_a_key_that_moved_the_chunks_know_the_newer_record",
    ),
    Mutation(
        "verify takes what gave way to a refused record for stale",
        "agents/operations/judge.py",
        "(item for item in plain if not (entry and gave_way(item, known, entry)))",
        "plain",
        "test_an_index_made_anew_knows_that_partitions_were_added",
    ),
    Mutation(
        "a rebuild that was killed while it made its index stays so",
        "agents/operations/rebuild.py",
        "            await index.open(new.index)\n",
        "",
        "test_an_index_is_built_again_from_what",
    ),
    Mutation(
        "nothing is asked for",
        "agents/elastic/bulk.py",
        "if not ids:",
        "if False:",
        "test_a_rebuild_of_deletions_alone",
    ),
    Mutation(
        "a rebuild and its base may differ in their epochs",
        "agents/operations/rebuild.py",
        'if new.contract["cuts"] != base.contract["cuts"]:',
        "if False:",
        "test_a_rebuild_of_deletions_alone",
    ),
    Mutation(
        "what is counted and not claimed is counted again",
        "agents/worker/assignment.py",
        "if shares.full or shares.stopped:",
        "if shares.full:",
        "test_too_many_rejected_records_are_remembered",
    ),
    Mutation(
        "a rebuild forgets deletions",
        "agents/operations/rebuild.py",
        """    if there is None:
        return True
""",
        """    if there is None:
        return entry.n > 0
""",
        "test_what_is_taken_from_the_serving_index",
    ),
    Mutation(
        "a rebuild takes only what is older than the topic",
        "agents/operations/rebuild.py",
        "await run.from_index(base, identity.chunk_index_uuid, ends, report)",
        "await run.from_index(base, identity.chunk_index_uuid, starts, report)",
        "test_a_rebuild_keeps_what_compaction_took",
    ),
    Mutation(
        "open letters go with the index that they were about",
        "agents/operations/rebuild.py",
        "await run.letters_of(base, identity)",
        "pass",
        "test_a_rebuild_keeps_what_compaction_took",
    ),
    Mutation(
        "vacuum forgets deletions that older records would undo",
        "agents/operations/vacuum.py",
        "newer = epoch_of_version(entry.version) > self.oldest_epoch",
        "newer = False",
        "test_a_rebuild_keeps_what_compaction_took",
    ),
    Mutation(
        "compaction is damage",
        "agents/operations/verify.py",
        "gone=await self._gone(known[doc], seen)",
        "gone=frozenset()",
        "test_a_rebuild_keeps_what_compaction_took",
    ),
    Mutation(
        "only the registry's record may be one that compaction took",
        "agents/operations/verify.py",
        "newest = [max(made, key=lambda one: one[1])] if made else []",
        "newest = list[tuple[int, int]]()",
        "test_a_rebuild_keeps_what_compaction_took",
    ),
    Mutation(
        "old counts of idle partitions stay",
        "agents/worker/assignment.py",
        "if partition.stored.share != Share():",
        "if False:",
        "test_rejected_records_of_long_ago_stop_nobody",
    ),
    Mutation(
        "a log ends before it begins",
        "agents/kafka/reader.py",
        "end=max(begin[tp], end[tp])",
        "end=end[tp]",
        "test_retention_reaches_beyond_an_open_transaction",
    ),
    Mutation(
        "what only waits has no claim",
        "agents/worker/assignment.py",
        "if partition.stored != claims[number]",
        "if claims[number] is not None and partition.stored != claims[number]",
        "test_what_was_lost_of_a_partition_that_only_waited_is_counted_once",
    ),
    Mutation(
        "what waits for its turn is sought back",
        "agents/worker/assignment.py",
        "quiet_s > waiting_s or not await self._on_its_way(partition)",
        "True",
        "test_what_is_on_its_way_is_not_fetched_again",
    ),
    Mutation(
        "a rebalance may go on for ever",
        "agents/worker/watchdog.py",
        "stands = now - self._rebalance_since > limit",
        "stands = False",
        "test_a_rebalance_that_does_not_end_is_a_stall",
    ),
    Mutation(
        "nobody asks why the group was not joined",
        "agents/worker/app.py",
        "refused = self.consumer.take_group_error()",
        "refused = None",
        "test_a_group_that_does_not_take_a_worker_is_told_by_its_cause",
    ),
    Mutation(
        "no deadline after a crash",
        "agents/worker/app.py",
        "if first is None:\n            _exit_after(CLOSING_S * 3, self)",
        "",
        "test_an_error_ends_the_process_with_its_own_exit_code",
    ),
    Mutation(
        "chunks without versions",
        "agents/elastic/chunks.py",
        '"version": write.version,\n                '
        '"version_type": "external_gte" if write.over_equal else "external",',
        "",
        "test_a_zombie_wakes_up_after_its_successor_wrote",
    ),
    Mutation(
        "group offsets are not compared",
        "agents/worker/app.py",
        "if behind:",
        "if False:",
        "test_group_offsets_set_back_by_hand",
    ),
    Mutation(
        "a claim holds for any index",
        "agents/kafka/claims.py",
        "claim if claim is not None and claim.sink == sink else None for number",
        "claim for number",
        "test_chunk_index_deleted_under_a_worker_and_registry_deleted",
    ),
    Mutation(
        "one write alias for every incarnation",
        "agents/elastic/incarnation.py",
        'return f"{index}-write-{incarnation}"',
        'return f"{index}-write-x"',
        "test_an_index_made_anew_is_never_written_by_a_worker_of_the_old_one",
    ),
    Mutation(
        "a lost dead letter is passed over",
        "agents/kafka/dead_letters.py",
        "raise not_taken(",
        "return\n            raise not_taken(",
        "test_dead_letter_topic_that_cannot_be_written",
    ),
    Mutation(
        "a lost claim is passed over",
        "agents/kafka/claims.py",
        'raise PenstockError(\n                f"the changelog',
        'return\n            raise PenstockError(\n                f"the changelog',
        "test_changelog_that_cannot_be_written",
    ),
    Mutation(
        "keys may move between partitions",
        "streams/registry.py",
        "if _is_elsewhere(entry.partition, entry.version, wanted):",
        "if False:",
        "test_one_key_on_two_partitions",
    ),
    Mutation(
        "uncommitted records are read",
        "agents/worker/consumer.py",
        '"read_committed"',
        '"read_uncommitted"',
        "test_transactional_producer and abort",
    ),
    Mutation(
        "holes at the end are not proved",
        "agents/worker/assignment.py",
        "await self._close_gap(partition, prove=True)",
        "pass",
        "test_transactional_producer and commit",
    ),
    Mutation(
        "out of range is the log's end",
        "agents/kafka/reader.py",
        'auto_offset_reset="none",  # else',
        'auto_offset_reset="latest",  # else',
        "test_retention_overtakes",
    ),
    Mutation(
        "header keys are UTF-8",
        "agents/kafka/batches.py",
        "fetcher.PartitionRecords = _Records",
        "",
        "test_whatever_producers_send",
    ),
    Mutation(
        "timestamps are floats of seconds",
        "agents/worker/app.py",
        "timestamp_ms=message.timestamp_ms",
        "timestamp_ms=round(message.timestamp * 1000)",
        "test_whatever_producers_send",
    ),
    Mutation(
        "epochs are not told apart",
        "streams/registry.py",
        "return partition != wanted.partition and epoch_of_version(version) == epoch_of_version(wanted.version)",
        "return partition != wanted.partition",
        "test_partitions_are_added_under_load_and_keys_move",
    ),
    Mutation(
        "a cut is made at the first open transaction",
        "agents/operations/epoch.py",
        "ends = await self.reader.written(topic, range(now))  #",
        "ends = {number: bound.end for number, bound in bounds.items()}  #",
        "test_what_an_open_transaction_holds_back_is_older_than_the_cut",
    ),
    Mutation(
        "a shard that is away is waited for inside the server",
        "agents/elastic/bulk.py",
        'SHARD_WAIT = "1s"',
        'SHARD_WAIT = "1m"',
        "test_index_blocked_as_by_a_full_disk",
    ),
    Mutation(
        "time that Elasticsearch takes is the worker's",
        "agents/worker/watchdog.py",
        "or self._requests.waits or self._pipeline.waits:",
        "or self._elasticsearch_away or self._pipeline.waits:",
        "test_an_answer_that_takes_longer_than_a_stall_is_waited_for",
    ),
    Mutation(
        "a registry that is away is a stall",
        "agents/worker/watchdog.py",
        "or self._requests.waits or self._pipeline.waits:",
        "or self._requests.waits:",
        "test_avro_waits_for_its_schemas",
    ),
    Mutation(
        "what a rebuild made from chunks is read by the topic's rules",
        "streams/recover.py",
        "headers=((FORM_HEADER, OWN), *",
        "headers=(*",
        "test_debezium_envelopes_are_documents",
    ),
    Mutation(
        "verify does not look at pages",
        "streams/examine.py",
        'f"metadata.{name}" for name in ("start", "end", "page", "page_end", "heading")',
        'f"metadata.{name}" for name in ("start", "end")',
        "test_planted_damage_is_found_and_mended",
    ),
    Mutation(
        "a worker writes into an index of another format",
        "agents/elastic/index.py",
        'if (made := stored["format"]) != (ours := contract["format"]):',
        'if (made := stored["format"]) > (ours := contract["format"]):',
        "test_an_index_of_the_former_format",
    ),
    Mutation(
        "verify does not look at flags",
        "streams/examine.py",
        "elif newest is not None and row.told != newest.told[number]:",
        "elif False and newest is not None:",
        "test_planted_damage_is_found_and_mended",
    ),
    Mutation(
        "nothing is rejected for its text",
        "agents/indexing/stages.py",
        "refusal(document, work.chunks, verdict, self._parts.reject)",
        "None",
        "test_what_is_listed_is_rejected_whoever_processes_it",
    ),
    Mutation(
        "commands that write beside workers reject nothing",
        "agents/indexing/assembly.py",
        "reject=settings.quality.reject,",
        "reject=settings.quality.reject if budget else (),",
        "test_what_is_listed_is_rejected_whoever_processes_it",
    ),
    Mutation(
        "one flagged chunk rejects a document",
        "streams/quality.py",
        "if sum(map(len, flagged)) <= REJECTED_ABOVE * total:",
        "if not flagged:",
        "test_one_bad_chunk_of_many_is_flagged_and_the_document_stays",
    ),
    Mutation(
        "what is rejected is no part of the contract",
        "agents/configured.py",
        "} | (_records(settings) | _quality(settings) | _routes(settings, manifests))",
        "} | (_records(settings) | _routes(settings, manifests))",
        "test_what_is_listed_is_rejected_whoever_processes_it",
    ),
    Mutation(
        "a language that was recognised replaces the producer's",
        "streams/plan.py",
        "return told_language({**document.metadata, **chunk.metadata}) or verdict.language",
        "return verdict.language or told_language({**document.metadata, **chunk.metadata})",
        "test_what_the_producer_says_of_the_language_wins",
    ),
    Mutation(
        "what is alike is shown again and again",
        "agents/operations/duplicates.py",
        "(own is not None and any(",
        "(False and any(",
        "test_texts_are_annotated_and_stay_so",
    ),
    Mutation(
        "the moment of growth is that of a committed record",
        "agents/kafka/reader.py",
        "found = await self._found_at(topic, partitions, 0, held_back=True)",
        "found = await self._found_at(topic, partitions, 0, held_back=False)",
        "test_the_moment_of_growth_may_be_in_an_open_transaction",
    ),
    Mutation(
        "vacuum counts committed records",
        "agents/operations/vacuum.py",
        "if one.begin < written[number]}",
        "if one.begin < one.end}",
        "test_what_an_open_transaction_holds_back_needs_the_entries_of_deleted_documents",
    ),
    Mutation(
        "claims bear the worker's time",
        "agents/indexing/preflight.py",
        '"segment.ms": "3600000", **BROKERS_TIME}',
        '"segment.ms": "3600000"}',
        "test_a_worker_whose_clock_is_wrong_goes_on",
    ),
    Mutation(
        "claimed records are not compared",
        "agents/kafka/claims.py",
        "elif record is not None and Fingerprint.of(record) != claim.record:",
        "elif False:",
        "test_a_topic_made_anew_is_seen_before_claims_hide_it",
    ),
    Mutation(
        "entries are about an index of Elasticsearch's uuid",
        "agents/elastic/incarnation.py",
        'chunk_index_uuid=stored.get("id", uuids[name]),',
        "chunk_index_uuid=uuids[name],",
        "test_the_index_is_restored_from_a_snapshot",
    ),
    Mutation(
        "a running worker does not look at its index",
        "agents/worker/drift.py",
        "if found.sink != identity.sink:",
        "if False:",
        "test_the_index_is_set_back_under_an_idle_worker",
    ),
    Mutation(
        "superseded letters count as open",
        "streams/dead_letter.py",
        'return "superseded"',
        'return "open"',
        "test_200_poison_records_among_1000",
    ),
    Mutation(
        "repairs reuse what is there",
        "streams/protocol.py",
        "work.old = 0 if work.repair else _old_chunks(before, target)",
        "work.old = _old_chunks(before, target)",
        "test_planted_damage_is_found_and_mended",
    ),
    Mutation(
        "vectors are not read back",
        "streams/protocol.py",
        "(await chunks.read(part, vector)).items()",
        "()",
        "test_in_a_changed_document_only_changed_chunks_are_embedded and not older_major",
    ),
    Mutation(
        "a rebuild passes over what it had begun when it was killed",
        "agents/operations/rebuild.py",
        'there.entry.state != "done")',
        "False)",
        "test_an_index_is_built_again_from_what_the_topic_lost",
    ),
    Mutation(
        "a promotion asks for no lag",
        "agents/operations/promote.py",
        "while behind := sum(",
        "while behind := 0 * sum(",
        "test_a_second_model_is_filled_promoted_and_taken_back",
    ),
    Mutation(
        "the changelog topic is never made anew",
        "agents/operations/epoch.py",
        "if (found or 0) > partitions:",
        "if False:",
        "test_made_anew_with_fewer_partitions",
    ),
    Mutation(
        "claims beyond a cut stay",
        "agents/operations/epoch.py",
        "for one in groups if offsets else []:",
        "for one in []:",
        "test_partitions_grow_by_no_multiple_while_there_is_lag",
    ),
    Mutation(
        "letters of any group",
        "streams/dead_letter.py",
        "or letter.group == home.group\n",
        "or True\n",
        "test_two_groups_share_a_dead_letter_topic",
    ),
    Mutation(
        "a group may feed from two topics",
        "agents/indexing/preflight.py",
        "if await reader.is_gone(other):",
        "if True:",
        "test_a_group_that_feeds_another_topics_index_is_refused_with_a_way_on",
    ),
    Mutation(
        "what left an object is forgotten once the object was read",
        "agents/sources/run.py",
        "for doc, published in self._state.left(self._source.name, listed.id):",
        "for doc, published in ():",
        "test_what_an_object_has_not_any_more_counts_as_a_deletion",
    ),
    Mutation(
        "a source's documents may have ids by two kinds of options",
        "agents/sources/session.py",
        "            await told.read_into(state)\n            require_same(state, source.name, self._options)\n",
        "            await told.read_into(state)\n",
        "test_other_ids_are_refused_or_given_to_all",
    ),
    Mutation(
        "a document of another source is overwritten",
        "agents/sources/collecting.py",
        "if before and before.source != name:",
        "if False:",
        "test_a_document_belongs_to_one_source_and_one_object",
    ),
    Mutation(
        "what waits to be published of a document is not looked at",
        "agents/sources/collecting.py",
        "before = self._waiting.get(doc) or self._state.published(doc)",
        "before = self._state.published(doc)",
        "test_the_last_line_about_a_document_counts",
    ),
    Mutation(
        "numbers that are read alike make one id",
        "streams/mapping.py",
        "if isinstance(value, float) and abs(value) >= EXACT:",
        "if False:",
        "test_an_id_of_more_digits_than_are_read_is_an_error",
    ),
    Mutation(
        "an object counts as published before all of it is",
        "agents/sources/run.py",
        "            if whole and to:\n",
        "            if to:\n",
        "test_what_fails_deletes_nothing_and_says_so",
    ),
    Mutation(
        "what is remembered is not in the records' transaction",
        "agents/sources/publish.py",
        "failures.row, failed)]\n",
        "failures.row, failed)]\n            async with self._producer.transaction():\n",
        "test_kill_9_of_an_ingest_loses_and_repeats_nothing",
    ),
    Mutation(
        "a letter about what failed is not in the transaction of its row",
        "agents/sources/publish.py",
        "await self._letters(failed)\n",
        "await self._letters(failed)\n            async with self._producer.transaction():\n",
        "test_kill_9_neither_loses_nor_doubles_a_letter",
    ),
    Mutation(
        "letters of objects are all of one place",
        "streams/dead_letter.py",
        "if self.source is not None:\n            return self.source",
        "if False:\n            return self.source",
        "test_the_latest_letter_speaks_for_an_object_and_each_object_for_itself",
    ),
    Mutation(
        "an object that fails as before is a dead letter anew",
        "agents/sources/failures.py",
        "return again or self._standing(",
        "return True or self._standing(",
        "test_a_letter_is_written_where_an_object_fails_otherwise_than_before",
    ),
    Mutation(
        "an object that was published stands as failed",
        "agents/sources/run.py",
        "self._collector.mend(listed.id)",
        "pass",
        "test_after_any_edits_and_kills_what_stands_is_what_fails",
    ),
    Mutation(
        "what an earlier run left open is read past",
        "agents/sources/state.py",
        "elif deadline.left_s:",
        "else:\n                    break\n                if False:",
        "test_what_is_remembered_is_read_to_its_end",
    ),
    Mutation(
        "an object is remembered as it was listed",
        "agents/sources/run.py",
        "                    read = found\n",
        "",
        "test_an_object_that_was_replaced_since_it_was_listed_is_remembered_as_it_was_read",
    ),
    Mutation(
        "what is excluded is gone",
        "agents/sources/run.py",
        "if not self._options.delete_excluded:",
        "if False:",
        "test_what_is_excluded_stays_as_it_was",
    ),
    Mutation(
        "a document is taken from an object that may have it still",
        "agents/sources/run.py",
        "await self._look_where_it_was(found)",
        "pass",
        "test_a_document_that_another_object_may_have_still_is_not_taken_from_it",
    ),
    Mutation(
        "notifications that nobody can read any more are passed over",
        "agents/sources/session.py",
        "if place is None or await notifications.missed(place):",
        "if place is None:",
        "test_notifications_lead_to_what_is_there_now",
    ),
    Mutation(
        "a stop breaks off the transaction that is open",
        "agents/sources/publish.py",
        "await asyncio.shield(work)",
        "await work",
        "test_a_stop_ends_after_the_transaction_that_is_open",
    ),
    Mutation(
        "a child does not wait for its parents",
        "agents/sources/kinesis/shards.py",
        "if left.isdisjoint(shards.get(shard, none).parents))",
        "if shards.get(shard, none))",
        "test_nothing_is_lost_or_repeated_and_keys_keep_their_order",
    ),
    Mutation(
        "a shard that the server does not find is gone, although it is listed",
        "agents/sources/kinesis/reader.py",
        "if self._shard not in await self._listed():",
        "if True:",
        "test_a_shard_that_is_listed_is_not_gone_whatever_its_pages_say",
    ),
    Mutation(
        "a checkpoint is that of the page, whatever of it is in the transaction",
        "agents/sources/kinesis/bridge.py",
        "rows |= [shard_row(self._source, batch.shard, at, log)]",
        "rows |= [shard_row(self._source, batch.shard, batch.at, log)]",
        "test_kill_9_over_splits_and_merges_loses_repeats_and_reorders_nothing",
    ),
    Mutation(
        "a shard is resumed behind its last record, and nothing proves that all is there",
        "agents/sources/kinesis/reader.py",
        "if self._unproved and (page.records or over):",
        "if False:",
        "test_what_retention_took_is_listed_until_it_was_sent_again",
    ),
    Mutation(
        "what a page leads to is forgotten when it did not change",
        "agents/sources/pages.py",
        "[link.removeprefix(host) for link in page.links]",
        "[]",
        "test_a_second_crawl_fetches_nothing",
    ),
    Mutation(
        "a crawl that was killed asks for all again",
        "agents/sources/web/crawl.py",
        "fresh = last.over or",
        "fresh = True or",
        "test_a_crawl_that_was_killed_asks_for_nothing_twice",
    ),
    Mutation(
        "a crawl that failed somewhere is whole",
        "agents/sources/web/crawl.py",
        "        self._complete = False\n        self._summary.fail(Failure(origin=origin, reason=reason))",
        "        self._summary.fail(Failure(origin=origin, reason=reason))",
        "test_what_aborts_deletes_nothing",
    ),
    Mutation(
        "what nobody says is gone goes, though it may be hidden",
        "agents/sources/web/crawl.py",
        "state.leave_out(seed, lambda url: not self._outcomes.is_none(url))",
        "pass",
        "test_what_always_fails_hides_no_deletion",
    ),
    Mutation(
        "where something fails, documents to which nothing leads are not asked for",
        "agents/sources/web/crawl.py",
        "for url in self._outcomes.unfound() if not self._complete else ():",
        "for url in ():",
        "test_what_always_fails_hides_no_deletion",
    ),
    Mutation(
        "a page that is a copy of nothing is no document",
        "agents/sources/web/outcomes.py",
        "if not self.is_elsewhere(url, target, sure=True):",
        "if False:",
        "test_a_page_that_is_nowhere_else_is_a_document",
    ),
    Mutation(
        "an address is judged by its name",
        "agents/sources/web/addresses.py",
        "if why := why_refused(str(address[0]), allow_private=allow_private):",
        "if False:",
        "test_nothing_is_sent_to_this_machine_unless_it_may_be",
    ),
    Mutation(
        "a stub that is refused is a document's fault",
        "streams/protocol.py",
        "if isinstance(outcome, Refused):  # an empty row",
        "if False:  # an empty row",
        "test_a_copy_with_the_write_alias_is_no_documents_fault",
    ),
    Mutation(
        "a bump that was interrupted is not gone on with",
        "agents/operations/epoch.py",
        "await index.open(found.index)",
        "pass",
        "test_a_bump_goes_on_where_it_was_interrupted",
    ),
    Mutation(
        "another group's registry is believed, though nobody verified it",
        "agents/operations/letters.py",
        "await index.require_verified(identity, generation.group)  # else its registry may say too much",
        "pass",
        "test_a_purge_leaves_what_another_groups_index_may_need",
    ),
    Mutation(
        "what may be the last copy is dropped",
        "agents/operations/promote.py",
        "if serving and not generation.rebuild:",
        "if False:",
        "test_what_may_be_the_last_copy_is_not_dropped",
    ),
    Mutation(
        "chunks that went are told by nobody",
        "agents/operations/status.py",
        "            await index.require_verified(identity, settings.source.group)\n",
        "",
        "test_chunks_that_went_alone_are_told_until_they_are_back",
    ),
    Mutation(
        "a verification beside producers vouches for nothing",
        "agents/operations/verify.py",
        "if whole and result.unsettled:",
        "if False and whole:",
        "test_chunks_that_went_alone_are_told_until_they_are_back",
    ),
    Mutation(
        "a pipeline that is gone is a document's fault",
        "agents/elastic/bulk.py",
        "if NO_SUCH_PIPELINE.match(",
        "if False and NO_SUCH_PIPELINE.match(",
        "test_a_pipeline_that_is_gone_or_fails_is_no_documents_fault",
    ),
    Mutation(
        "a group's own index is forgotten",
        "streams/generations.py",
        "if bound:",
        "if False:",
        "test_a_second_model_is_filled_promoted_and_taken_back",
    ),
]


def main() -> None:
    """Run those whose rule contains the word given, or all; exit 1 when one is not caught."""
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    chosen = [mutation for mutation in MUTATIONS if word in mutation.rule]
    guard.begin()
    shared.begin()
    try:
        with ThreadPoolExecutor(AT_ONCE) as runs:
            missed = [one.rule for one, found in zip(chosen, runs.map(caught, chosen), strict=True) if not found]
    finally:
        shared.end()
    print(f"not caught: {missed}" if missed else "every mutation was caught")
    sys.exit(bool(missed))


def files_of(mutation: Mutation) -> list[str]:
    """Where its test is, from the root."""
    name = mutation.test.split(" ")[0]
    return [
        str(path.relative_to(ROOT)) for path in ROOT.glob("tests/**/test_*.py") if f"def {name}" in path.read_text()
    ]


def caught(mutation: Mutation) -> bool:
    """Whether the test fails without the rule."""
    with tempfile.TemporaryDirectory(prefix="penstock-mutation-") as folder:
        listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
        for name in filter(None, listing.decode().split("\0")):
            target = Path(folder) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
        path = Path(folder) / mutation.file
        text = path.read_text()
        if text.count(mutation.old) != 1:
            raise SystemExit(f"{mutation.rule}: {mutation.file} does not have this text once: {mutation.old!r}")
        path.write_text(text.replace(mutation.old, mutation.new))
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "-x",
                "-p",
                "no:cacheprovider",
                *files_of(mutation),
                "-k",
                mutation.test,
            ],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": folder, "CHAOS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
    failures = [line for line in done.stdout.splitlines() if line.startswith("E  ")]
    found = done.returncode == 1 and " failed" in done.stdout
    print(
        f"{'caught' if found else 'NOT CAUGHT'}: {mutation.rule}: {(failures or ['no failure'])[0][:200]}", flush=True
    )
    return found


if __name__ == "__main__":
    main()
