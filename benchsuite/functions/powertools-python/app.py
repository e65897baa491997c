"""Powertools for Python as its documentation has it: one call per record, and nothing done with the decoded bytes."""

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes.kinesis_stream_event import KinesisStreamRecord

processor = BatchProcessor(event_type=EventType.KinesisDataStreams)


def record_handler(record: KinesisStreamRecord):
    record.kinesis.data_as_bytes()


def handler(event, context):
    return process_partial_response(event=event, record_handler=record_handler, processor=processor, context=context)
